/** The fields of a definition, as its author wrote them; what is read here was validated. */

export const STATE_TYPES = ['Action', 'Choice', 'Pass', 'Wait', 'Fail', 'ExpressionEval', 'Map', 'Parallel'] as const;
export type StateType = (typeof STATE_TYPES)[number];

export interface Definition {
  StartAt: string;
  States: Record<string, State>;
}

export interface Catcher {
  ErrorEquals: string[];
  Next: string;
  ResultPath?: string;
}

export interface Retrier {
  ErrorEquals: string[];
  IntervalSeconds?: number;
  BackoffRate?: number;
  MaxAttempts?: number;
  MaxDelaySeconds?: number;
}

/** One of many shapes; which fields a type has is checked by validation. */
export interface State {
  Type: StateType;
  Comment?: string | null;
  Next?: string;
  End?: boolean;
  InputPath?: string;
  Parameters?: unknown;
  Result?: unknown;
  ResultPath?: string;
  ActionUrl?: string;
  Handler?: { Type: string; Url: string };
  WaitTime?: number;
  ExceptionOnActionFailure?: boolean;
  Catch?: Catcher[];
  Retry?: Retrier[];
  Choices?: Rule[];
  Default?: string;
  Seconds?: number;
  SecondsPath?: string;
  Timestamp?: string;
  TimestampPath?: string;
  Error?: string;
  ErrorPath?: string;
  Cause?: string;
  CausePath?: string;
  ItemsPath?: string;
  ItemSelector?: unknown;
  ItemProcessor?: Definition;
  Iterator?: Definition;
  MaxConcurrency?: number;
  ToleratedFailureCount?: number;
  ToleratedFailurePercentage?: number;
  Branches?: Definition[];
}

export interface Rule {
  Next?: string;
  Variable?: string;
  And?: Rule[];
  Or?: Rule[];
  Not?: Rule;
  [comparison: string]: unknown;
}

export const PRIVATE_PARAMETERS = '__Private_Parameters';
export const DEFAULT_WAIT_TIME_S = 300;
export const YEAR_S = 366 * 86_400;
/** Of a `Map`, as Amazon's inline one has it. */
export const MAX_CONCURRENCY = 40;
export const MAX_ITEMS = 10_000;
export const MAX_BRANCHES = 50;

export const actionUrlOf = (state: State): string => (state.ActionUrl ?? state.Handler?.Url ?? '').replace(/\/+$/, '');
export const itemProcessorOf = (state: State): Definition | undefined => state.ItemProcessor ?? state.Iterator;
