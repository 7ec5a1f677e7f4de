import { FLOW_ERROR } from '../contracts/flows';
import { compareText, indexOfPart } from './expression/text';
import type { Rule } from './definition';
import { FlowError } from './errors';
import { lookUp, parsePath, resolvePath, showPath, type Path, type Scope } from './paths';
import { force, type Json } from './values';
import { timestampMs } from './timestamps';

/** The rules of a Choice. A value of another type makes a comparison false; a missing variable is an error. */

type Order = (difference: number) => boolean;
const ORDERS: Record<string, Order> = {
  Equals: (d) => d === 0,
  LessThan: (d) => d < 0,
  GreaterThan: (d) => d > 0,
  LessThanEquals: (d) => d <= 0,
  GreaterThanEquals: (d) => d >= 0,
};
const TESTS: Record<string, (value: Json) => boolean> = {
  IsNull: (value) => value === null,
  IsNumeric: (value) => typeof value === 'number',
  IsString: (value) => typeof value === 'string',
  IsBoolean: (value) => typeof value === 'boolean',
  IsTimestamp: (value) => typeof value === 'string' && timestampMs(value) !== undefined,
};

/** Name of each comparison, with what its other side must be. */
export const COMPARISONS: ReadonlyMap<string, 'string' | 'number' | 'boolean' | 'timestamp' | 'path'> = new Map([
  ...Object.keys(ORDERS).flatMap((order) => [
    [`String${order}`, 'string'] as const,
    [`Numeric${order}`, 'number'] as const,
    [`Timestamp${order}`, 'timestamp'] as const,
    [`String${order}Path`, 'path'] as const,
    [`Numeric${order}Path`, 'path'] as const,
    [`Timestamp${order}Path`, 'path'] as const,
  ]),
  ['BooleanEquals', 'boolean'],
  ['BooleanEqualsPath', 'path'],
  ['StringMatches', 'string'],
  ['IsPresent', 'boolean'],
  ...Object.keys(TESTS).map((name) => [name, 'boolean'] as const),
]);

export function choose(rules: readonly Rule[], scope: Scope): string | undefined {
  return rules.find((rule) => holds(rule, scope))?.Next;
}

function holds(rule: Rule, scope: Scope): boolean {
  if (rule.And) return rule.And.every((inner) => holds(inner, scope));
  if (rule.Or) return rule.Or.some((inner) => holds(inner, scope));
  if (rule.Not) return !holds(rule.Not, scope);
  const name = Object.keys(rule).find((key) => COMPARISONS.has(key)) ?? '';
  const path = parsePath(rule.Variable ?? '$');
  if (name === 'IsPresent') return (lookUp(scope, path) !== undefined) === rule[name];
  const value = force(variable(scope, path), scope.loaded);
  const test = TESTS[name];
  if (test) return test(value) === rule[name];
  const other =
    COMPARISONS.get(name) === 'path'
      ? force(resolvePath(scope, parsePath(rule[name] as string)), scope.loaded)
      : (rule[name] as Json);
  // Each comparison counts as an expression of its own: a Choice has as many as its author writes.
  scope.budget?.beginExpression();
  if (typeof value === 'string' && typeof other === 'string') scope.budget?.read(value.length + other.length);
  return compare(name.replace(/Path$/, ''), value, other);
}

function variable(scope: Scope, path: Path): Json {
  const value = lookUp(scope, path);
  if (value !== undefined) return value;
  throw new FlowError(
    FLOW_ERROR.parameterPath,
    `the variable ${showPath(path)} of a choice does not exist in the state of the run; test it with IsPresent first`,
  );
}

function compare(name: string, value: Json, other: Json): boolean {
  if (name === 'BooleanEquals') return typeof value === 'boolean' && value === other;
  if (name === 'StringMatches') return typeof value === 'string' && typeof other === 'string' && matches(other, value);
  const [, type = '', order = ''] = /^(String|Numeric|Timestamp)(.*)$/.exec(name) ?? [];
  const isOrdered = ORDERS[order];
  const difference = isOrdered && differenceOf(type, value, other);
  return difference !== undefined && isOrdered !== undefined && isOrdered(difference);
}

function differenceOf(type: string, a: Json, b: Json): number | undefined {
  if (type === 'Numeric') return typeof a === 'number' && typeof b === 'number' ? Math.sign(a - b) : undefined;
  if (typeof a !== 'string' || typeof b !== 'string') return undefined;
  if (type === 'String') return compareText(a, b);
  const [left, right] = [timestampMs(a), timestampMs(b)];
  return left === undefined || right === undefined ? undefined : left - right;
}

/** `*` is any text, `\*` a star, `\\` a backslash. In linear time: each part is looked for from the left, the last one at the end. */
function matches(pattern: string, text: string): boolean {
  const parts: string[] = [''];
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at]!; // at < pattern.length
    if (char === '*') parts.push('');
    else parts[parts.length - 1] += char === '\\' && /[*\\]/.test(pattern[at + 1] ?? '') ? pattern[++at]! : char;
  }
  const [first = '', ...rest] = parts;
  const last = rest.pop();
  if (last === undefined) return text === first;
  if (!text.startsWith(first)) return false;
  let at = first.length;
  for (const part of rest) {
    const found = indexOfPart(text, part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return text.length - last.length >= at && text.endsWith(last);
}
