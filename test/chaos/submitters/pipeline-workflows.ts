import { map, pythonFunction } from '../../../sdk/workflow';
import { PYTHON_SOURCE } from '../calls';

/** The pipeline of a run, as its author writes it. */

export const chaos = pythonFunction<[key: string, kind: string], string>({ name: 'chaos', source: PYTHON_SOURCE });

export async function chaosPipeline(endpoint: string, keys: string[]): Promise<string[]> {
  return map(
    chaos,
    keys.map((key): [string, string] => [key, 'fast']),
    { endpoint },
  );
}
