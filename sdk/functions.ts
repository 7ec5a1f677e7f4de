import { readFileSync } from 'node:fs';
import { basename, extname } from 'node:path';
import { Script } from 'node:vm';

import { TerminalError } from '../contracts/errors';

import type { CallPolicy } from './policy';

/** A function before registration: its source, name and language. */
export interface FunctionSource<_Result = unknown> {
  readonly language: 'python' | 'javascript' | 'shell';
  readonly name: string;
  readonly source: string;
  readonly description?: string;
}

export interface RegisterOptions {
  description?: string;
  /** Every identity may call the function. */
  public?: boolean;
  /** Members of this group may call the function. */
  groupId?: string;
  /** Default retries, walltime and deadline of calls of the function. */
  policy?: CallPolicy;
}

/** Any JavaScript function. Only its text is sent. */
export type AnyFunction = (...args: never[]) => unknown;

/** The result of a shell function. A command that exits with a code other than 0 rejects. */
export interface ShellResult {
  returncode: number;
  stdout: string;
  stderr: string;
  cmd: string;
}

/** Declares a Python function by the source of a module. Without `name`, it must define exactly one top-level function. */
export function python<Result = unknown>(source: string, name?: string): FunctionSource<Result> {
  const text = source.replace(/^\uFEFF/, '');
  const defined = [...text.matchAll(/^(?:async[ \t]+)?def[ \t]+([\p{ID_Start}_][\p{ID_Continue}]*)/gmu)].map(
    (match) => match[1] ?? '',
  );
  if (name !== undefined) {
    if (!/^[\p{ID_Start}_][\p{ID_Continue}]*$/u.test(name)) {
      throw new TerminalError('INVALID_REQUEST', `"${name}" is not the name of a Python function.`);
    }
    return { language: 'python', name, source: text };
  }
  const [only] = defined;
  if (only === undefined || defined.length > 1) {
    const found = defined.length === 0 ? 'none' : defined.join(', ');
    throw new TerminalError(
      'INVALID_REQUEST',
      `Name the function of the Python source; the functions at its top level are: ${found}.`,
    );
  }
  return { language: 'python', name: only, source: text };
}

/** Reads a Python function from a file. The whole file is sent. */
export function pythonFile<Result = unknown>(path: string, name?: string): FunctionSource<Result> {
  return python(readSource(path), name);
}

/**
 * Declares a JavaScript function. Only its text is sent, not its closure: the function may use its arguments, `require` and
 * Node's globals. If `fn` is a text, it must be a function expression, or statements that define `name`.
 */
export function javascript<Result = unknown>(fn: AnyFunction | string, name?: string): FunctionSource<Result> {
  if (typeof fn === 'string') {
    const declared = /^\s*(?:async\s+)?function\s*\*?\s*([\p{ID_Start}$_][\p{ID_Continue}$]*)/u.exec(fn)?.[1];
    return { language: 'javascript', name: name ?? declared ?? 'anonymous', source: fn };
  }
  return { language: 'javascript', name: identifier(name ?? fn.name), source: textOf(fn) };
}

/**
 * Declares a shell command. `{0}` and `{name}` are replaced by the shell-quoted positional or named argument. `{{name}}` is a
 * literal `{name}`. Other braces are passed to the shell.
 */
export function shell(template: string, name = 'shell'): FunctionSource<ShellResult> {
  return { language: 'shell', name, source: template };
}

/** Reads a function from a file. The extension selects the language: `.py`, `.js`/`.cjs`, `.sh`. */
export function functionFile(path: string, name?: string): FunctionSource {
  const extension = extname(path);
  const named = name ?? basename(path, extension);
  switch (extension) {
    case '.py':
      return pythonFile(path, name);
    case '.js':
    case '.cjs':
      return javascript(readSource(path), name);
    case '.sh':
      return shell(readSource(path).replaceAll('\r\n', '\n'), named); // a shell treats \r as part of a word
    default:
      throw new TerminalError('INVALID_REQUEST', `The file type of ${path} is not supported; use a .py, .js, .cjs or .sh file.`);
  }
}

function readSource(path: string): string {
  try {
    return readFileSync(path, 'utf8').replace(/^\uFEFF/, ''); // a byte order mark
  } catch (error) {
    throw new TerminalError('INVALID_REQUEST', `Cannot read the file ${path}.`, { cause: error });
  }
}

const identifier = (name: string): string => (/^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(name) ? name : 'anonymous');

/** Returns the text of a function as an expression. Throws if the function has no source text. */
function textOf(fn: AnyFunction): string {
  const text = Function.prototype.toString.call(fn);
  if (/\{\s*\[native code\]\s*\}$/.test(text)) {
    throw new TerminalError(
      'INVALID_REQUEST',
      `The function ${fn.name || '(anonymous)'} is built in or bound, so it has no source.`,
    );
  }
  if (/^class\b/.test(text)) throw new TerminalError('INVALID_REQUEST', `${fn.name} is a class; send a function.`);
  if (isExpression(text)) return text;
  // A method such as `name() { ... }` is valid only inside an object literal.
  const object = `{ ${text} }`;
  if (isExpression(object)) return `Object.values(${object})[0]`;
  throw new TerminalError(
    'INVALID_REQUEST',
    `The source of ${fn.name || 'the function'} is not valid JavaScript on its own; pass the source as text instead.`,
  );
}

function isExpression(text: string): boolean {
  try {
    new Script(`(${text}\n)`);
    return true;
  } catch {
    return false;
  }
}
