/** Functions and methods of expressions, with the number of their arguments; the values are in functions.ts. */

interface Shape {
  min: number;
  max: number;
  named: readonly string[];
}

const shape = (min: number, max = min, named: string[] = []): Shape => ({ min, max, named });

export const FUNCTIONS: ReadonlyMap<string, Shape> = new Map([
  ['pathsplit', shape(1)],
  ['is_present', shape(1)],
  ['getattr', shape(1, 2, ['default'])],
  ['len', shape(1)],
  ['str', shape(0, 1)],
  ['int', shape(0, 1)],
  ['float', shape(0, 1)],
  ['bool', shape(0, 1)],
  ['min', shape(1, Infinity)],
  ['max', shape(1, Infinity)],
  ['sum', shape(1, 2)],
  ['abs', shape(1)],
  ['round', shape(1, 2)],
  ['sorted', shape(1, 1, ['reverse'])],
  ['any', shape(1)],
  ['all', shape(1)],
]);

export const STRING_METHODS: ReadonlyMap<string, Shape> = new Map([
  ['strip', shape(0, 1)],
  ['lstrip', shape(0, 1)],
  ['rstrip', shape(0, 1)],
  ['startswith', shape(1)],
  ['endswith', shape(1)],
  ['removeprefix', shape(1)],
  ['removesuffix', shape(1)],
  ['partition', shape(1)],
  ['rpartition', shape(1)],
  ['split', shape(0, 2)],
  ['rsplit', shape(0, 2)],
  ['join', shape(1)],
  ['replace', shape(2)],
  ['lower', shape(0)],
  ['upper', shape(0)],
  ['find', shape(1)],
  ['rfind', shape(1)],
  ['count', shape(1)],
  ['isdigit', shape(0)],
  ['zfill', shape(1)],
]);
