import { FLOW_ERROR } from '../contracts/flows';
import { PRIVATE_PARAMETERS } from './definition';
import { FlowError } from './errors';
import { evaluate } from './expression/evaluate';
import { parseExpression } from './expression/parse';
import { ExpressionSyntaxError, type Node } from './expression/syntax';
import { parsePath, PathSyntaxError, resolvePath, type Path, type Scope } from './paths';
import { isJsonObject, put, type Json, type JsonObject } from './values';

/** Builds a value from `Parameters`: keys ending in `.$` hold a path, in `.=` an expression, all else is constant. */
export function buildParameters(template: Json, scope: Scope): Json {
  if (Array.isArray(template)) return template.map((item) => buildParameters(item, scope));
  if (!isJsonObject(template)) return template;
  const result: JsonObject = {};
  for (const [key, value] of Object.entries(template)) {
    if (key === PRIVATE_PARAMETERS) continue;
    if (key.endsWith('.$')) put(result, key.slice(0, -2), atPath(value, scope));
    else if (key.endsWith('.=')) put(result, key.slice(0, -2), computed(key, value, scope));
    else put(result, key, buildParameters(value, scope));
  }
  return result;
}

/** What a log may show of a value that was built: the names listed as private are left out. */
export function withoutPrivate(template: Json, built: Json): Json {
  if (Array.isArray(template) && Array.isArray(built)) return built.map((item, at) => withoutPrivate(template[at] ?? null, item));
  if (!isJsonObject(template) || !isJsonObject(built)) return built;
  const listed = template[PRIVATE_PARAMETERS];
  const hidden = new Set(Array.isArray(listed) ? listed.map((name) => (typeof name === 'string' ? plainName(name) : '')) : []);
  const result: JsonObject = {};
  for (const [key, value] of Object.entries(built))
    if (!hidden.has(key)) put(result, key, withoutPrivate(template[key] ?? null, value));
  return result;
}

export function withoutPrivateKeys(data: Json): Json {
  if (!isJsonObject(data)) return data;
  const result: JsonObject = {};
  for (const [key, value] of Object.entries(data)) if (!key.startsWith('_private')) put(result, key, value);
  return result;
}

const plainName = (key: string): string => (/\.[$=]$/.test(key) ? key.slice(0, -2) : key);

function atPath(value: Json, scope: Scope): Json {
  return resolvePath(scope, readPath(value));
}

export function readPath(value: unknown): Path {
  try {
    if (typeof value !== 'string') throw new PathSyntaxError('a path is a string');
    return remembered(paths, value, parsePath);
  } catch (error) {
    if (error instanceof PathSyntaxError) throw new FlowError(FLOW_ERROR.parameterPath, error.message);
    throw error;
  }
}

function computed(key: string, value: Json, scope: Scope): Json {
  try {
    if (typeof value !== 'string') throw new ExpressionSyntaxError('an expression is a string', 0);
    return evaluate(remembered(expressions, value, parseExpression), scope);
  } catch (error) {
    if (error instanceof ExpressionSyntaxError) throw new FlowError(FLOW_ERROR.intrinsic, `${key}: ${error.message}`);
    if (error instanceof FlowError && error.error === FLOW_ERROR.intrinsic) {
      throw new FlowError(FLOW_ERROR.intrinsic, `${key}: ${error.message}`);
    }
    throw error;
  }
}

const MAX_REMEMBERED = 2_000;
const paths = new Map<string, Path>();
const expressions = new Map<string, Node>();

/** A loop reads the same text again and again. */
function remembered<T>(known: Map<string, T>, text: string, read: (text: string) => T): T {
  const found = known.get(text);
  if (found !== undefined) return found;
  const value = read(text);
  if (known.size >= MAX_REMEMBERED) known.clear();
  known.set(text, value);
  return value;
}
