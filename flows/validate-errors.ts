import { YEAR_S } from './definition';
import { checkNumber, checkTarget, type StateNames } from './validate-fields';
import { checkPath, type Loc, type Reporter } from './validate-values';
import { isObject } from './values';

/** Catch and Retry: which errors a state handles, and how. */

function checkErrorNames(names: unknown, loc: Loc, report: Reporter): void {
  if (Array.isArray(names) && names.length > 0 && names.every((name) => typeof name === 'string')) return;
  report.problem(
    loc,
    names === undefined ? 'missing' : 'type_error',
    'ErrorEquals is a list of names of errors, such as ["States.ALL"]',
  );
}

export function checkCatch(catchers: unknown, loc: Loc, states: StateNames, report: Reporter): void {
  if (catchers === undefined) return;
  if (!Array.isArray(catchers)) return report.problem(loc, 'type_error', 'Catch is a list');
  catchers.forEach((catcher: unknown, at) => {
    const place = [...loc, at];
    if (!isObject(catcher)) return report.problem(place, 'type_error', 'a catcher is an object with ErrorEquals and Next');
    for (const key of Object.keys(catcher)) {
      if (['ErrorEquals', 'Next', 'ResultPath', 'Comment'].includes(key)) continue;
      report.problem(
        [...place, key],
        'extra_forbidden',
        `a catcher has no field ${key}; its fields are ErrorEquals, Next and ResultPath`,
      );
    }
    checkErrorNames(catcher.ErrorEquals, [...place, 'ErrorEquals'], report);
    checkTarget(catcher.Next, [...place, 'Next'], states, report);
    checkPath(catcher.ResultPath, [...place, 'ResultPath'], report);
  });
}

export function checkRetry(retriers: unknown, loc: Loc, report: Reporter): void {
  if (!Array.isArray(retriers)) return report.problem(loc, 'type_error', 'Retry is a list');
  const fields = ['ErrorEquals', 'IntervalSeconds', 'BackoffRate', 'MaxAttempts', 'MaxDelaySeconds', 'Comment'];
  retriers.forEach((retrier: unknown, at) => {
    const place = [...loc, at];
    if (!isObject(retrier)) return report.problem(place, 'type_error', 'a retrier is an object with ErrorEquals');
    for (const key of Object.keys(retrier)) {
      if (!fields.includes(key))
        report.problem([...place, key], 'extra_forbidden', `a retrier has no field ${key}; its fields are ${fields.join(', ')}`);
    }
    checkErrorNames(retrier.ErrorEquals, [...place, 'ErrorEquals'], report);
    checkNumber(retrier.IntervalSeconds, [...place, 'IntervalSeconds'], { least: 1, most: YEAR_S, unit: 'seconds' }, report);
    checkNumber(retrier.BackoffRate, [...place, 'BackoffRate'], { least: 1, most: 100, unit: 'times' }, report);
    checkNumber(
      retrier.MaxAttempts,
      [...place, 'MaxAttempts'],
      { least: 0, most: 1_000, isWhole: true, unit: 'attempts' },
      report,
    );
    checkNumber(retrier.MaxDelaySeconds, [...place, 'MaxDelaySeconds'], { least: 1, most: YEAR_S, unit: 'seconds' }, report);
  });
}
