import { PRIVATE_PARAMETERS } from './definition';
import { parseExpression } from './expression/parse';
import { ExpressionSyntaxError } from './expression/syntax';
import { parsePath, PathSyntaxError } from './paths';
import { has, isObject } from './values';

/** Checks of paths and parameters. */

export type Loc = (string | number)[];

export interface Reporter {
  allowedUrls: readonly string[];
  problem(loc: Loc, type: string, msg: string, code?: 'SCOPE_RESOLUTION_FAILED'): void;
  scope(scope: string): void;
  extension(loc: Loc, msg: string): void;
}

export function isPath(value: unknown): value is string {
  return typeof value === 'string' && pathMistake(value) === undefined;
}

export function checkPath(value: unknown, loc: Loc, report: Reporter): void {
  if (value === undefined) return;
  if (typeof value !== 'string') return report.problem(loc, 'type_error', `${String(loc.at(-1))} is a path such as $.a.b`);
  const mistake = pathMistake(value);
  if (mistake !== undefined) report.problem(loc, 'value_error', mistake);
}

function pathMistake(text: string): string | undefined {
  try {
    parsePath(text);
    return undefined;
  } catch (error) {
    if (error instanceof PathSyntaxError) return error.message;
    throw error;
  }
}

export function checkParameters(parameters: unknown, loc: Loc, report: Reporter): void {
  if (parameters === undefined) return;
  if (isObject(parameters)) checkObject(parameters, loc, report);
  else report.problem(loc, 'type_error', `${String(loc.at(-1))} is an object`);
}

function checkValue(value: unknown, loc: Loc, report: Reporter): void {
  if (Array.isArray(value)) value.forEach((item, at) => checkValue(item, [...loc, at], report));
  else if (isObject(value)) checkObject(value, loc, report);
}

function checkObject(object: Record<string, unknown>, loc: Loc, report: Reporter): void {
  for (const [key, value] of Object.entries(object)) {
    const at = [...loc, key];
    const plain = key.slice(0, -2);
    if (key === PRIVATE_PARAMETERS) checkPrivate(value, object, at, report);
    else if (key.endsWith('.$')) {
      checkName(plain, key, object, at, report);
      checkPath(value, at, report);
    } else if (key.endsWith('.=')) {
      checkName(plain, key, object, at, report);
      checkExpression(value, at, report);
    } else checkValue(value, at, report);
  }
}

function checkName(plain: string, key: string, object: object, loc: Loc, report: Reporter): void {
  const twice = [plain, `${plain}.$`, `${plain}.=`].find((other) => other !== key && has(object, other));
  if (plain === '') report.problem(loc, 'value_error', 'a name is missing before the ending');
  else if (twice !== undefined) report.problem(loc, 'value_error', `${key} and ${twice} both say what ${plain} is; keep one`);
}

function checkPrivate(names: unknown, object: object, loc: Loc, report: Reporter): void {
  if (!Array.isArray(names) || !names.every((name): name is string => typeof name === 'string')) {
    return report.problem(loc, 'type_error', `${PRIVATE_PARAMETERS} is a list of names`);
  }
  names.forEach((name, at) => {
    const plain = name.replace(/\.[$=]$/, '');
    if ([name, plain, `${plain}.$`, `${plain}.=`].some((key) => has(object, key))) return;
    report.problem([...loc, at], 'value_error', `there is no parameter ${name} beside the list; nothing would be hidden`);
  });
}

function checkExpression(value: unknown, loc: Loc, report: Reporter): void {
  if (typeof value !== 'string') return report.problem(loc, 'type_error', 'an expression is a string');
  try {
    parseExpression(value);
  } catch (error) {
    if (!(error instanceof ExpressionSyntaxError)) throw error;
    report.problem(loc, 'expression_syntax', `${error.message} (character ${error.at + 1} of the expression)`);
  }
}
