import { FLOW_ERROR } from '../contracts/flows';
import { FlowError } from './errors';
import type { Budget } from './expression/budget';
import { force, has, isJsonObject, put, type Json, type JsonObject, type Loaded } from './values';

/** Reference paths: `$`, `.name`, `['name']`, `[0]`; no wildcards. */

export type Path = (string | number)[];

export class PathSyntaxError extends Error {
  override name = 'PathSyntaxError';
}

const NAME = /[^\s.[\]()*?@,:'"`$&|!<>=]+/y;
const INDEX = /\[\s*(0|[1-9][0-9]{0,8})\s*\]/y;
const QUOTED = /\[\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*\]/y;
const MAX_PATH_CHARS = 2_000;

/** Reads `$...`; throws a {@link PathSyntaxError} that says what is wrong. */
export function parsePath(text: string): Path {
  if (text.length > MAX_PATH_CHARS) throw new PathSyntaxError(`a path has at most ${MAX_PATH_CHARS} characters`);
  if (!text.startsWith('$')) throw new PathSyntaxError(`a path begins with $. and ${quote(text)} does not`);
  // Amazon's name for the context.
  return text.startsWith('$$') ? ['_context', ...parseSteps(text, 2)] : parseSteps(text, 1);
}

/** Reads `a.b[0]`, as the functions `is_present` and `getattr` take it. */
export function parseDotted(text: string): Path {
  return text.startsWith('$') ? parsePath(text) : parseSteps(`.${text}`, 0);
}

function parseSteps(text: string, from: number): Path {
  const path: Path = [];
  let at = from;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at = pattern.lastIndex;
    return found;
  };
  while (at < text.length) {
    if (text[at] === '.') {
      at++;
      const name = take(NAME);
      if (!name) throw new PathSyntaxError(`a name is missing at character ${at + 1} of ${quote(text)}`);
      path.push(name[0]);
      continue;
    }
    const index = take(INDEX);
    if (index) {
      path.push(Number(index[1]));
      continue;
    }
    const quoted = take(QUOTED);
    if (!quoted) {
      throw new PathSyntaxError(
        `character ${at + 1} of ${quote(text)} is not part of a reference path; use .name, ['name'] and [0] only`,
      );
    }
    path.push((quoted[1] ?? quoted[2] ?? '').replace(/\\(.)/g, '$1'));
  }
  return path;
}

export function showPath(path: Path): string {
  return `$${path.map((step) => (typeof step === 'number' ? `[${step}]` : /^[\w-]+$/.test(step) ? `.${step}` : `['${step}']`)).join('')}`;
}

/** What paths and expressions see. */
export interface Scope {
  /** The state of the run, or what a line of a `Map` works on. */
  data: Json;
  /** At `$._context`; hides a key of that name. */
  context: JsonObject;
  loaded: Loaded;
  /** Of the state that is entered. Without it, each expression has one of its own. */
  budget?: Budget;
}

export function lookUp(scope: Scope, path: Path): Json | undefined {
  const isContext = path[0] === '_context';
  let value: Json | undefined = isContext ? scope.context : scope.data;
  for (const step of isContext ? path.slice(1) : path) {
    value = child(force(value, scope.loaded), step);
    if (value === undefined) return undefined;
  }
  return value;
}

function child(value: Json, step: string | number): Json | undefined {
  if (typeof step === 'number') {
    if (Array.isArray(value)) return value[step];
    return undefined;
  }
  return isJsonObject(value) && has(value, step) ? value[step] : undefined;
}

export function resolvePath(scope: Scope, path: Path): Json {
  const value = lookUp(scope, path);
  if (value === undefined) {
    throw new FlowError(FLOW_ERROR.parameterPath, `the path ${showPath(path)} does not exist in the state of the run`);
  }
  return value;
}

/** A copy of the state with the value at this place; objects on the way are made, lists are not. */
export function placeResult(root: Json, path: Path, value: Json): Json {
  return placed(root, path, 0, value);
}

function placed(target: Json | undefined, path: Path, at: number, value: Json): Json {
  const step = path[at];
  if (step === undefined) return value;
  if (typeof step === 'number') {
    if (Array.isArray(target) && step < target.length) {
      const copy = [...target];
      copy[step] = placed(target[step], path, at + 1, value);
      return copy;
    }
    throw mismatch(path, at, 'is not a list with this place');
  }
  if (target !== undefined && target !== null && !isJsonObject(target)) throw mismatch(path, at, 'is not an object');
  const copy: JsonObject = {};
  for (const [key, inner] of Object.entries(target ?? {})) put(copy, key, inner);
  const inner = target && has(target, step) ? target[step] : undefined;
  put(copy, step, placed(inner, path, at + 1, value));
  return copy;
}

function mismatch(path: Path, at: number, what: string): FlowError {
  return new FlowError(
    FLOW_ERROR.resultPath,
    `the result cannot be put at ${showPath(path)}: ${showPath(path.slice(0, at))} ${what}; choose another ResultPath`,
  );
}

const quote = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
