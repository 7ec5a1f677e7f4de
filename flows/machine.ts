import { FLOW_ERROR } from '../contracts/flows';
import { choose } from './choice';
import {
  actionUrlOf,
  DEFAULT_WAIT_TIME_S,
  itemProcessorOf,
  MAX_CONCURRENCY,
  MAX_ITEMS,
  YEAR_S,
  type Definition,
  type State,
} from './definition';
import { FlowError } from './errors';
import { Budget } from './expression/budget';
import { buildParameters, readPath, withoutPrivate } from './parameters';
import { placeResult, resolvePath, type Scope } from './paths';
import { findProvider, type Provider } from './providers';
import { timestampMs } from './timestamps';
import { force, has, isJsonObject, measure, type Json, type JsonObject } from './values';

/** One state at a time: what entering it calls for, and where its result leads. Pure; time comes from the caller. */

/** Characters of the state of a run, and of any value in it. */
export const MAX_STATE_CHARS = 1_000_000;
const MAX_DEPTH = 200;
/** Characters of all items of a Map together. */
const MAX_ITEMS_CHARS = 20_000_000;

export interface Moved {
  data: Json;
  /** Undefined at the end. */
  next: string | undefined;
}

export type Entered =
  | ({ kind: 'moved'; input: Json } & Moved)
  | { kind: 'wait'; untilMs: number; input: Json }
  | { kind: 'action'; provider: Provider; url: string; body: Json; input: Json; waitTimeS: number }
  | { kind: 'map'; items: { data: Json; context: JsonObject }[]; concurrency: number; tolerated: number; input: Json }
  | { kind: 'parallel'; data: Json; branches: number; input: Json }
  | { kind: 'failed'; error: string; cause: string };

export function enter(state: State, given: Scope, nowMs: number, allowedUrls: readonly string[]): Entered {
  const scope = { ...given, budget: given.budget ?? new Budget() };
  switch (state.Type) {
    case 'Pass':
    case 'ExpressionEval': {
      const { value, shown } = inputOf(state, scope);
      const result = state.Result === undefined ? value : (state.Result as Json);
      return { kind: 'moved', input: shown, ...settle(state, scope.data, result) };
    }
    case 'Choice': {
      const next = choose(state.Choices ?? [], scope) ?? state.Default;
      if (next === undefined) throw new FlowError(FLOW_ERROR.noChoice, 'no rule holds, and there is no Default; add one');
      return { kind: 'moved', input: scope.data, data: scope.data, next };
    }
    case 'Wait':
      return { kind: 'wait', untilMs: waitUntil(state, scope, nowMs), input: scope.data };
    case 'Fail':
      return {
        kind: 'failed',
        error: textOf(state, 'Error', scope) ?? 'States.Failed',
        cause: textOf(state, 'Cause', scope) ?? '',
      };
    case 'Action': {
      const { value, shown } = inputOf(state, scope);
      const found = findProvider(actionUrlOf(state), allowedUrls);
      if ('refused' in found) throw new FlowError(FLOW_ERROR.unableToRun, found.refused);
      const waitTimeS = state.WaitTime ?? DEFAULT_WAIT_TIME_S;
      return { kind: 'action', provider: found.provider, url: found.url, body: value, input: shown, waitTimeS };
    }
    case 'Map':
      return enterMap(state, scope);
    case 'Parallel': {
      const { value, shown } = inputOf(state, scope);
      return { kind: 'parallel', data: value, branches: state.Branches?.length ?? 0, input: shown };
    }
  }
}

export function settle(state: State, data: Json, result: Json): Moved {
  const placed = placeResult(data, readPath(state.ResultPath ?? '$'), result);
  requireFit(placed);
  return { data: placed, next: state.End === true ? undefined : state.Next };
}

export function caught(state: State, data: Json, error: string, cause: Json): Moved | undefined {
  const catcher = state.Catch?.find(({ ErrorEquals }) => names(ErrorEquals, error));
  if (!catcher) return undefined;
  const placed = placeResult(data, readPath(catcher.ResultPath ?? '$'), { Error: error, Cause: cause });
  requireFit(placed);
  return { data: placed, next: catcher.Next };
}

/** The pause before the next try, counted for each retrier; undefined when the error is final. */
export function retried(
  state: State,
  error: string,
  counts: Readonly<Record<string, number>>,
): { delayMs: number; counts: Record<string, number> } | undefined {
  const at = state.Retry?.findIndex(({ ErrorEquals }) => names(ErrorEquals, error)) ?? -1;
  const retrier = state.Retry?.[at];
  if (!retrier) return undefined;
  const done = counts[at] ?? 0;
  if (done >= (retrier.MaxAttempts ?? 3)) return undefined;
  const delayS = (retrier.IntervalSeconds ?? 1) * (retrier.BackoffRate ?? 2) ** done;
  return { delayMs: Math.min(delayS, retrier.MaxDelaySeconds ?? YEAR_S, YEAR_S) * 1_000, counts: { ...counts, [at]: done + 1 } };
}

/** The definition that a line runs: the run's own, or one inside a Map or Parallel state. */
export function definitionAt(root: Definition, scope: readonly string[]): Definition {
  let definition = root;
  for (let at = 0; at < scope.length; at += 2) {
    const state = stateOf(definition, scope[at] ?? '');
    const inner = state.Type === 'Parallel' ? state.Branches?.[Number(scope[at + 1])] : itemProcessorOf(state);
    if (!inner) throw new FlowError(FLOW_ERROR.runtime, `there is no definition inside the state ${scope[at] ?? ''}`);
    definition = inner;
  }
  return definition;
}

export function stateOf(definition: Definition, name: string): State {
  if (has(definition.States, name)) return definition.States[name]!; // it has it
  throw new FlowError(FLOW_ERROR.runtime, `there is no state ${name} in the definition`);
}

/** What comes from outside into the state of a run. */
export function requireFit(value: Json): void {
  const { size, depth } = measure(value);
  if (size > MAX_STATE_CHARS) {
    throw new FlowError(
      FLOW_ERROR.dataLimit,
      `the state of the run would have ${size} characters, the limit is ${MAX_STATE_CHARS}; let functions pass large values to each other: as results they stay in the store`,
    );
  }
  if (depth > MAX_DEPTH) throw new FlowError(FLOW_ERROR.dataLimit, `a value is nested more than ${MAX_DEPTH} deep`);
}

function names(listed: readonly string[], error: string): boolean {
  return listed.some((name) => name === error || name.toLowerCase() === FLOW_ERROR.all.toLowerCase());
}

function inputOf(state: State, scope: Scope): { value: Json; shown: Json } {
  if (state.Parameters !== undefined) {
    const value = buildParameters(state.Parameters as Json, scope);
    requireFit(value);
    return { value, shown: withoutPrivate(state.Parameters as Json, value) };
  }
  const value = state.InputPath === undefined ? scope.data : resolvePath(scope, readPath(state.InputPath));
  return { value, shown: value };
}

function waitUntil(state: State, scope: Scope, nowMs: number): number {
  const at = (path: string): Json => force(resolvePath(scope, readPath(path)), scope.loaded);
  const seconds = state.Seconds ?? (state.SecondsPath === undefined ? undefined : at(state.SecondsPath));
  if (seconds !== undefined) {
    if (typeof seconds !== 'number' || seconds < 0 || seconds > YEAR_S) {
      throw new FlowError(
        FLOW_ERROR.runtime,
        `a Wait takes 0 to ${YEAR_S} seconds; ${state.SecondsPath ?? 'Seconds'} holds another value`,
      );
    }
    return nowMs + seconds * 1_000;
  }
  const moment = state.Timestamp ?? at(state.TimestampPath ?? '$');
  const ms = typeof moment === 'string' ? timestampMs(moment) : undefined;
  if (ms === undefined) {
    throw new FlowError(
      FLOW_ERROR.runtime,
      'a Wait takes a moment such as 2030-01-31T12:00:00Z; TimestampPath holds another value',
    );
  }
  return Math.min(ms, nowMs + YEAR_S * 1_000);
}

function textOf(state: State, name: 'Error' | 'Cause', scope: Scope): string | undefined {
  const path = state[`${name}Path`];
  if (path === undefined) return state[name];
  const value = force(resolvePath(scope, readPath(path)), scope.loaded);
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function enterMap(state: State, scope: Scope): Entered {
  const items = force(resolvePath(scope, readPath(state.ItemsPath ?? '$')), scope.loaded);
  if (!Array.isArray(items))
    throw new FlowError(FLOW_ERROR.runtime, `a Map goes through a list; ${state.ItemsPath ?? '$'} holds another value`);
  if (items.length > MAX_ITEMS) {
    throw new FlowError(FLOW_ERROR.dataLimit, `a Map goes through at most ${MAX_ITEMS} items; the list has ${items.length}`);
  }
  const template = (state.ItemSelector ?? state.Parameters) as Json | undefined;
  let size = 0;
  const lines = items.map((item, at) => {
    const place = { Item: { Index: at, Value: item } };
    const context = { ...scope.context, Map: place };
    const data = template === undefined ? item : buildParameters(template, { ...scope, context });
    requireFit(data);
    size += measure(data).size;
    if (size > MAX_ITEMS_CHARS)
      throw new FlowError(FLOW_ERROR.dataLimit, 'the items of the Map are too large together; pass references');
    return { data, context: { Map: { Item: { Index: at } } } };
  });
  const share = Math.floor((items.length * (state.ToleratedFailurePercentage ?? 0)) / 100);
  return {
    kind: 'map',
    items: lines,
    concurrency: state.MaxConcurrency === undefined || state.MaxConcurrency === 0 ? MAX_CONCURRENCY : state.MaxConcurrency,
    tolerated: Math.max(state.ToleratedFailureCount ?? 0, share),
    input: isJsonObject(scope.data) ? { items: items.length } : items.length,
  };
}
