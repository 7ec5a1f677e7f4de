import type { ReferenceDocument } from '../../contracts/calls';

/** Declarations of functions for pipelines. The source is only sent to the endpoint; it does not run in the workflow. */

/** A reference to a value that stays in the service's store. It can be an argument of another call. */
export type Reference<T = unknown> = ReferenceDocument & { readonly __value?: T };

/** An argument is a value or a reference to a value. */
export type Argument<T> = T | Reference<T>;
export type Arguments<A extends readonly unknown[]> = { [K in keyof A]: Argument<A[K]> };

export interface FunctionSource {
  name: string;
  version: string;
  source: string;
  language: 'python' | 'javascript' | 'shell';
}

/** A function with the declared types of its arguments and its result. */
export interface RemoteFunction<A extends unknown[] = unknown[], R = unknown> {
  /** ID, name or name@version. */
  readonly ref: string;
  readonly name: string;
  /** The source that the plugin registers when the worker starts. Absent if the function is registered elsewhere. */
  readonly declared?: FunctionSource;
  readonly __types?: (...args: A) => R;
}

export interface DeclaredFunction {
  /** Name of the function in its source. */
  name: string;
  source: string;
  /** Default: a hash of the source, so that a changed source is a new version. */
  version?: string;
}

/** Declares a Python function by its source, beside the workflow. List it in the plugin's `functions`. */
export function pythonFunction<A extends unknown[] = unknown[], R = unknown>(given: DeclaredFunction): RemoteFunction<A, R> {
  return declare(given, 'python', dedent(given.source));
}

/** Declares a JavaScript function by its source. Only agents of this project run JavaScript. */
export function javascriptFunction<A extends unknown[] = unknown[], R = unknown>(given: DeclaredFunction): RemoteFunction<A, R> {
  return declare(given, 'javascript', given.source);
}

/** Refers to a registered function by ID, name or name@version. */
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

/** FNV-1a with 64 bits: worker and workflow must compute the same version, and the workflow sandbox has no crypto module. */
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

function dedent(source: string): string {
  const lines = source
    .replace(/^[ \t]*\n/, '')
    .trimEnd()
    .split('\n');
  const indents = lines.filter((line) => line.trim() !== '').map((line) => /^[ \t]*/.exec(line)![0].length); // always matches
  const least = indents.length > 0 ? Math.min(...indents) : 0;
  return `${lines.map((line) => line.slice(least)).join('\n')}\n`;
}
