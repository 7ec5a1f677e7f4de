import { COMPARISONS } from './choice';
import { timestampMs } from './timestamps';
import { checkPath, isPath, type Loc, type Reporter } from './validate-values';
import { isObject } from './values';

/** A rule of a Choice state, with the rules inside it. `isOuter`: it is in `Choices` itself, where it has Next. */
export function checkRule(rule: unknown, loc: Loc, report: Reporter, isOuter: boolean): void {
  if (!isObject(rule))
    return report.problem(loc, 'type_error', 'a rule is an object with a Variable and a comparison, or And, Or, Not');
  if (!isOuter && rule.Next !== undefined) report.problem([...loc, 'Next'], 'extra_forbidden', 'only a rule at the top has Next');
  const keys = Object.keys(rule).filter((key) => !['Next', 'Variable', 'Comment'].includes(key));
  const [operator] = keys;
  if (operator === undefined || keys.length > 1) {
    return report.problem(loc, 'value_error', 'a rule has exactly one comparison, or one of And, Or, Not');
  }
  const at = [...loc, operator];
  const value = rule[operator];
  if (operator === 'And' || operator === 'Or') {
    if (!Array.isArray(value) || value.length === 0) return report.problem(at, 'type_error', `${operator} is a list of rules`);
    return value.forEach((inner, place) => checkRule(inner, [...at, place], report, false));
  }
  if (operator === 'Not') return checkRule(value, at, report, false);
  const wanted = COMPARISONS.get(operator);
  if (!wanted)
    return report.problem(
      at,
      'value_error',
      `there is no comparison ${operator}; see StringEquals, NumericLessThan, IsPresent and the like`,
    );
  if (rule.Variable === undefined)
    report.problem([...loc, 'Variable'], 'missing', 'a comparison needs a Variable, a path such as $.a');
  else checkPath(rule.Variable, [...loc, 'Variable'], report);
  if (wanted === 'path') {
    if (!isPath(value)) checkPath(value, at, report);
  } else if (wanted === 'timestamp') {
    if (typeof value !== 'string' || timestampMs(value) === undefined)
      report.problem(at, 'type_error', `${operator} takes a moment such as 2030-01-31T12:00:00Z`);
  } else if (typeof value !== wanted) report.problem(at, 'type_error', `${operator} takes a ${wanted}`);
}
