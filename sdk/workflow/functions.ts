import type { ReferenceDocument } from '../../contracts/calls';

/** Functions as a pipeline names them. Nothing here runs Python: the text goes to the endpoint. */

/** Stands for a value that stays in the store of the service; may be an argument of another call. */
export type Reference<T = unknown> = ReferenceDocument & { readonly __value?: T };

/** An argument is the value itself or a reference to it. */
export type Argument<T> = T | Reference<T>;
export type Arguments<A extends readonly unknown[]> = { [K in keyof A]: Argument<A[K]> };

export interface FunctionSource {
  name: string;
  version: string;
  source: string;
  language: 'python' | 'javascript' | 'shell';
}

/** A function with the types of its arguments and its result, as its author declares them. */
export interface RemoteFunction<A extends unknown[] = unknown[], R = unknown> {
  /** Id, name or name@version. */
  readonly ref: string;
  readonly name: string;
  /** What the plugin registers when the worker starts; absent for functions that are registered elsewhere. */
  readonly declared?: FunctionSource;
  readonly __types?: (...args: A) => R;
}

export interface DeclaredFunction {
  /** Name of the function in its source. */
  name: string;
  source: string;
  /** Default: made from the source, so that a changed source is another version. */
  version?: string;
}

/** A Python function by its source, declared beside the workflow; list it in the plugin's `functions`. */
export function pythonFunction<A extends unknown[] = unknown[], R = unknown>(given: DeclaredFunction): RemoteFunction<A, R> {
  return declare(given, 'python', dedent(given.source));
}

/** A JavaScript function by its source; runs on agents of ours. */
export function javascriptFunction<A extends unknown[] = unknown[], R = unknown>(given: DeclaredFunction): RemoteFunction<A, R> {
  return declare(given, 'javascript', given.source);
}

/** A function that is registered already, by id, name or name@version. */
export function registeredFunction<A extends unknown[] = unknown[], R = unknown>(ref: string): RemoteFunction<A, R> {
  return { ref, name: ref.split('@')[0] || ref };
}

function declare<A extends unknown[], R>(
  { name, version }: DeclaredFunction,
  language: FunctionSource['language'],
  source: string,
): RemoteFunction<A, R> {
  const declared = { name, source, language, version: version ?? contentVersion(`${language}\n${name}\n${source}`) };
  return { ref: `${name}@${declared.version}`, name, declared };
}

/** FNV-1a, 64 bits. The same text has the same version in the worker and in the workflow's sandbox, which has no crypto. */
function contentVersion(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of utf8(text)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash.toString(16).padStart(16, '0');
}

function* utf8(text: string): Generator<number> {
  for (const char of encodeURIComponent(text).matchAll(/%(..)|[^%]/g)) {
    yield char[1] === undefined ? char[0].charCodeAt(0) : parseInt(char[1], 16);
  }
}

/** Source in a template literal is indented like the code around it. */
function dedent(source: string): string {
  const lines = source
    .replace(/^[ \t]*\n/, '')
    .trimEnd()
    .split('\n');
  const indents = lines.filter((line) => line.trim() !== '').map((line) => /^[ \t]*/.exec(line)![0].length); // matches always
  const least = indents.length > 0 ? Math.min(...indents) : 0;
  return `${lines.map((line) => line.slice(least)).join('\n')}\n`;
}
