import { MAX_BRANCHES, MAX_CONCURRENCY, STATE_TYPES, YEAR_S, type StateType } from './definition';
import { findProvider } from './providers';
import { timestampMs } from './timestamps';
import { checkCatch, checkRetry } from './validate-errors';
import { requireAtMostOne, checkNumber, checkTarget, checkType, requireExactlyOne, StateNames } from './validate-fields';
import { checkRule } from './validate-rules';
import { checkParameters, checkPath, type Loc, type Reporter } from './validate-values';
import { isObject } from './values';

/** Checks of states: which fields a type has, what they hold, and where they lead. */

const FLOWING = ['Next', 'End'];
const FIELDS: Record<StateType, readonly string[]> = {
  Action: [
    ...FLOWING,
    'ActionUrl',
    'Handler',
    'Parameters',
    'InputPath',
    'ResultPath',
    'ActionScope',
    'WaitTime',
    'ExceptionOnActionFailure',
    'RunAs',
    'Catch',
    'Retry',
  ],
  Choice: ['Choices', 'Default'],
  Pass: [...FLOWING, 'Parameters', 'InputPath', 'Result', 'ResultPath'],
  Wait: [...FLOWING, 'Seconds', 'SecondsPath', 'Timestamp', 'TimestampPath'],
  Fail: ['Error', 'ErrorPath', 'Cause', 'CausePath'],
  ExpressionEval: [...FLOWING, 'Parameters', 'ResultPath'],
  Map: [
    ...FLOWING,
    'ItemsPath',
    'ItemSelector',
    'Parameters',
    'ItemProcessor',
    'Iterator',
    'MaxConcurrency',
    'ToleratedFailureCount',
    'ToleratedFailurePercentage',
    'ResultPath',
    'Catch',
    'Retry',
  ],
  Parallel: [...FLOWING, 'Branches', 'Parameters', 'InputPath', 'ResultPath', 'Catch', 'Retry'],
};
const HINTS: Record<string, string> = {
  OutputPath: 'use ResultPath, and a Pass state to pick a part',
  ResultSelector: 'use ResultPath, and an ExpressionEval state to build another value',
  TimeoutSeconds: 'use WaitTime',
  Resource: 'use ActionUrl',
};
const MAX_STATES = 1_000;
const MAX_NAME_CHARS = 128;
const MAX_URL_CHARS = 2_000;

/** A definition, or the one inside a Map or Parallel state. */
export function checkStates(definition: Record<string, unknown>, loc: Loc, report: Reporter): void {
  const isInner = loc.length > 0;
  for (const key of Object.keys(definition)) {
    if (['StartAt', 'States', 'Comment'].includes(key) || (isInner && key === 'ProcessorConfig')) continue;
    report.problem([...loc, key], 'extra_forbidden', `there is no field ${key} here; the fields are StartAt, States and Comment`);
  }
  checkComment(definition, loc, report);
  const { StartAt: start, States: states } = definition;
  if (!isObject(states) || Object.keys(states).length === 0) {
    const type = states === undefined ? 'missing' : 'type_error';
    report.problem([...loc, 'States'], type, 'States is an object with at least one state');
    return;
  }
  if (Object.keys(states).length > MAX_STATES) {
    report.problem([...loc, 'States'], 'too_long', `there are more than ${MAX_STATES} states; use several flows`);
    return;
  }
  const names = new StateNames(states);
  checkTarget(start, [...loc, 'StartAt'], names, report);
  for (const [name, state] of Object.entries(states)) {
    const at = [...loc, 'States', name];
    if (name === '' || name.length > MAX_NAME_CHARS)
      report.problem(at, 'value_error', `the name of a state has 1 to ${MAX_NAME_CHARS} characters`);
    if (isObject(state)) checkState(state, at, names, report);
    else report.problem(at, 'type_error', 'a state is an object with a Type');
  }
}

function checkState(state: Record<string, unknown>, loc: Loc, states: StateNames, report: Reporter): void {
  const type = STATE_TYPES.find((known) => known === state.Type);
  if (!type) {
    const word = state.Type === undefined ? 'missing' : 'value_error';
    report.problem([...loc, 'Type'], word, `Type is one of ${STATE_TYPES.join(', ')}${typeHint(state.Type)}`);
    return;
  }
  for (const key of Object.keys(state))
    if (!['Type', 'Comment', ...FIELDS[type]].includes(key)) refuseField(type, key, loc, report);
  checkComment(state, loc, report);
  if (type === 'Map' || type === 'Parallel') report.extension(loc, `${type} states are not portable to the hosted service`);
  if (state.Retry !== undefined && FIELDS[type].includes('Retry')) {
    report.extension([...loc, 'Retry'], 'Retry is not portable to the hosted service');
    checkRetry(state.Retry, [...loc, 'Retry'], report);
  }
  if (FIELDS[type].includes('Next')) checkFlow(state, loc, states, report);
  if (FIELDS[type].includes('Catch')) checkCatch(state.Catch, [...loc, 'Catch'], states, report);
  for (const key of ['InputPath', 'ResultPath', 'ItemsPath'])
    if (FIELDS[type].includes(key)) checkPath(state[key], [...loc, key], report);
  if (FIELDS[type].includes('Parameters')) checkParameters(state.Parameters, [...loc, 'Parameters'], report);
  if (
    Array.isArray(state.ResultPath) ||
    (typeof state.ResultPath === 'string' && /^\$(\$|\._context|\['_context)/.test(state.ResultPath))
  ) {
    report.problem([...loc, 'ResultPath'], 'value_error', '_context cannot be changed; choose another ResultPath');
  }
  CHECKS[type](state, loc, states, report);
}

type Check = (state: Record<string, unknown>, loc: Loc, states: StateNames, report: Reporter) => void;

const CHECKS: Record<StateType, Check> = {
  Action(state, loc, _states, report) {
    requireExactlyOne(state, ['ActionUrl', 'Handler'], loc, report);
    requireExactlyOne(state, ['Parameters', 'InputPath'], loc, report);
    checkProvider(state, loc, report);
    checkNumber(state.WaitTime, [...loc, 'WaitTime'], { least: 1, most: YEAR_S, unit: 'seconds' }, report);
    checkType(state.ExceptionOnActionFailure, 'boolean', [...loc, 'ExceptionOnActionFailure'], report);
    checkType(state.ActionScope, 'string', [...loc, 'ActionScope'], report);
    if (state.RunAs !== undefined && state.RunAs !== 'User') {
      report.problem(
        [...loc, 'RunAs'],
        'value_error',
        'an action runs as the one who started the run; leave RunAs out, or write "User"',
      );
    }
  },
  Choice(state, loc, states, report) {
    const { Choices: rules, Default: fallback } = state;
    if (!Array.isArray(rules) || rules.length === 0) {
      report.problem(
        [...loc, 'Choices'],
        rules === undefined ? 'missing' : 'type_error',
        'Choices is a list with at least one rule',
      );
    } else {
      rules.forEach((rule, at) => {
        checkRule(rule, [...loc, 'Choices', at], report, true);
        if (isObject(rule)) checkTarget(rule.Next, [...loc, 'Choices', at, 'Next'], states, report);
      });
    }
    if (fallback !== undefined) checkTarget(fallback, [...loc, 'Default'], states, report);
  },
  Pass(state, loc, _states, report) {
    requireAtMostOne(state, ['Parameters', 'InputPath'], loc, report);
  },
  Wait(state, loc, _states, report) {
    requireExactlyOne(state, ['Seconds', 'SecondsPath', 'Timestamp', 'TimestampPath'], loc, report);
    checkNumber(state.Seconds, [...loc, 'Seconds'], { least: 0, most: YEAR_S, unit: 'seconds' }, report);
    checkPath(state.SecondsPath, [...loc, 'SecondsPath'], report);
    checkPath(state.TimestampPath, [...loc, 'TimestampPath'], report);
    const { Timestamp: moment } = state;
    if (moment !== undefined && (typeof moment !== 'string' || timestampMs(moment) === undefined)) {
      report.problem(
        [...loc, 'Timestamp'],
        'value_error',
        'Timestamp is a moment such as 2030-01-31T12:00:00Z, with its time zone',
      );
    }
  },
  Fail(state, loc, _states, report) {
    for (const name of ['Error', 'Cause']) {
      requireAtMostOne(state, [name, `${name}Path`], loc, report);
      checkType(state[name], 'string', [...loc, name], report);
      checkPath(state[`${name}Path`], [...loc, `${name}Path`], report);
    }
  },
  ExpressionEval(state, loc, _states, report) {
    for (const name of ['Parameters', 'ResultPath']) {
      if (state[name] === undefined) report.problem([...loc, name], 'missing', `an ExpressionEval state needs ${name}`);
    }
  },
  Map(state, loc, _states, report) {
    requireExactlyOne(state, ['ItemProcessor', 'Iterator'], loc, report);
    requireAtMostOne(state, ['ItemSelector', 'Parameters'], loc, report);
    checkParameters(state.ItemSelector, [...loc, 'ItemSelector'], report);
    for (const name of ['ItemProcessor', 'Iterator']) checkInner(state[name], [...loc, name], report);
    checkNumber(
      state.MaxConcurrency,
      [...loc, 'MaxConcurrency'],
      { least: 0, most: MAX_CONCURRENCY, isWhole: true, unit: 'items' },
      report,
    );
    checkNumber(
      state.ToleratedFailureCount,
      [...loc, 'ToleratedFailureCount'],
      { least: 0, most: 1e6, isWhole: true, unit: 'items' },
      report,
    );
    checkNumber(
      state.ToleratedFailurePercentage,
      [...loc, 'ToleratedFailurePercentage'],
      { least: 0, most: 100, unit: 'percent' },
      report,
    );
  },
  Parallel(state, loc, _states, report) {
    requireAtMostOne(state, ['Parameters', 'InputPath'], loc, report);
    const { Branches: branches } = state;
    if (!Array.isArray(branches) || branches.length === 0 || branches.length > MAX_BRANCHES) {
      const type = branches === undefined ? 'missing' : 'type_error';
      report.problem(
        [...loc, 'Branches'],
        type,
        `Branches is a list of 1 to ${MAX_BRANCHES} definitions, each with StartAt and States`,
      );
      return;
    }
    branches.forEach((branch, at) => checkInner(branch ?? null, [...loc, 'Branches', at], report));
  },
};

function checkInner(definition: unknown, loc: Loc, report: Reporter): void {
  if (definition === undefined) return;
  if (isObject(definition)) checkStates(definition, loc, report);
  else report.problem(loc, 'type_error', `${String(loc.at(-1))} is an object with StartAt and States`);
}

function refuseField(type: StateType, key: string, loc: Loc, report: Reporter): void {
  const plain = key.replace(/\.[$=]$/, '');
  const hint =
    plain !== key && FIELDS[type].includes(plain)
      ? `write ${plain} without the ending; only keys inside Parameters have one`
      : (HINTS[key] ?? `its fields are ${FIELDS[type].join(', ')}`);
  report.problem([...loc, key], 'extra_forbidden', `a state of type ${type} has no field ${key}; ${hint}`);
}

function typeHint(type: unknown): string {
  if (type === 'Succeed') return '; end a flow with "End": true';
  if (type === 'Task') return '; a Task is an Action here';
  return type === 'CreateWebInput' || type === 'AwaitWebInput' ? '; web inputs are not available' : '';
}

function checkComment(object: Record<string, unknown>, loc: Loc, report: Reporter): void {
  const { Comment: comment } = object;
  if (comment !== undefined && comment !== null && typeof comment !== 'string') {
    report.problem([...loc, 'Comment'], 'type_error', 'Comment is a string');
  }
}

function checkFlow(state: Record<string, unknown>, loc: Loc, states: StateNames, report: Reporter): void {
  const { Next: next, End: end } = state;
  if (end !== undefined && typeof end !== 'boolean') report.problem([...loc, 'End'], 'type_error', 'End is true');
  else if (next !== undefined && end === true) report.problem(loc, 'value_error', 'a state has Next or "End": true, not both');
  else if (next === undefined && end !== true) report.problem(loc, 'missing', 'a state needs Next, or "End": true');
  if (next !== undefined) checkTarget(next, [...loc, 'Next'], states, report);
}

function checkProvider(state: Record<string, unknown>, loc: Loc, report: Reporter): void {
  const { ActionUrl: address, Handler: handler } = state;
  if (handler !== undefined && address === undefined) {
    if (typeof handler === 'string') {
      report.problem([...loc, 'Handler'], 'value_error', 'registered APIs are not available; write ActionUrl');
    } else if (!isObject(handler) || handler.Type !== 'ActionProvider' || typeof handler.Url !== 'string') {
      report.problem([...loc, 'Handler'], 'type_error', 'Handler is {"Type": "ActionProvider", "Url": "https://..."}');
    } else checkUrl(handler.Url, [...loc, 'Handler', 'Url'], report);
  } else if (typeof address === 'string') checkUrl(address, [...loc, 'ActionUrl'], report);
  else if (address !== undefined) report.problem([...loc, 'ActionUrl'], 'type_error', 'ActionUrl is a string');
}

function checkUrl(url: string, loc: Loc, report: Reporter): void {
  // The patterns for addresses need time in the square of their length.
  if (url.length > MAX_URL_CHARS)
    return report.problem(loc, 'value_error', `${String(loc.at(-1))} has at most ${MAX_URL_CHARS} characters`);
  const found = findProvider(url, report.allowedUrls);
  if ('refused' in found) report.problem(loc, 'value_error', found.refused, 'SCOPE_RESOLUTION_FAILED');
  else {
    if (found.scope !== undefined) report.scope(found.scope);
    if (found.provider === 'http') report.extension(loc, 'only this service allows the address');
  }
}
