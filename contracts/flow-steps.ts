import type { AcceptedSubmissions, CallActivities } from './activities';

/**
 * The protocol between the workflow of a run and its activities. The workflow reports the outcome of a step as an event, and an
 * activity returns the next step. The workflow never sees a value of the run.
 */

/** The line of the run itself is ''. The lines of `Map` items and `Parallel` branches are `<line>/<position>.<number>`. */
export interface LineRef {
  runId: string;
  line: string;
}

export type FlowEvent =
  | { kind: 'go' }
  | { kind: 'waited' }
  /** An action could not be started; the cause is a sentence. */
  | { kind: 'refused'; cause: string }
  | { kind: 'acted'; groups: { submissionIds: string[] }[]; taskGroupId: string; isTimedOut: boolean }
  /** An action over HTTP has ended; its status is in the store. */
  | { kind: 'answered'; isTimedOut: boolean }
  /** All lines of a `Map` or `Parallel` have ended, or enough of them failed. */
  | { kind: 'joined' };

/** A state that was entered or left, for display. */
export interface ShownState {
  name: string;
  type: string;
  state: 'running' | 'done' | 'failed' | 'caught' | 'retried';
  /** Unix milliseconds. */
  sinceMs: number;
}

export type FlowStep = {
  /** The number of this step in its line. The next event names it. */
  position: number;
  shown: ShownState[];
} & (
  | { kind: 'more' }
  | { kind: 'wait'; untilMs: number; summary: string }
  | { kind: 'action'; state: string; waitTimeS: number }
  | { kind: 'http'; state: string; waitTimeS: number }
  | { kind: 'lines'; state: string; prefix: string; count: number; concurrency: number; tolerated: number }
  | { kind: 'succeeded'; entered: number }
  | { kind: 'failed'; error: string; cause: string }
);

export interface FlowLineInput extends LineRef {
  version: 1;
  generation: number;
  title: string;
  /** Set after continue-as-new: the next step. */
  carried?: { step: FlowStep; shown: ShownState[] };
}

export interface FlowMapInput {
  version: 1;
  runId: string;
  generation: number;
  title: string;
  prefix: string;
  state: string;
  count: number;
  concurrency: number;
  tolerated: number;
  carried?: { next: number; failed: number };
}

export type AcceptedAction = { groups: AcceptedSubmissions[] } | { refused: string };

export interface FlowActivities extends Pick<CallActivities, 'noteStarted' | 'observeCall'> {
  /** Opens a line and returns its first step; after a resume, the step with which the line continues. */
  openLine(input: LineRef & { generation: number }): Promise<FlowStep>;
  /** Opens lines and runs their first states. Returns the outcomes in order; a `running` line needs its own workflow. */
  openLines(input: { runId: string; lines: string[]; generation: number }): Promise<('succeeded' | 'failed' | 'running')[]>;
  advance(input: LineRef & { position: number; event: FlowEvent }): Promise<FlowStep>;
  /** Checks and stores the tasks of the line's current action. The same step is accepted only once. */
  acceptAction(input: LineRef & { position: number }): Promise<AcceptedAction>;
  /** Runs an action at its provider, from start to end. Each attempt is one poll; the event is `answered` or `refused`. */
  runHttpAction(input: LineRef & { position: number; waitTimeS: number }): Promise<FlowEvent>;
  /** Cancels the action of the line at its provider and releases it, as far as the provider allows. */
  stopHttpAction(input: LineRef & { position: number }): Promise<void>;
  /** `generation` is absent in activities that an earlier version scheduled. */
  endCancelled(input: { runId: string; generation?: number }): Promise<void>;
}
