import type { AcceptedSubmissions, CallActivities } from './activities';

/**
 * What the workflow of a run and its activities tell each other: one step after another, each of them an answer to what became
 * of the last one. The workflow never sees a value of the run.
 */

/** The run itself has the line ''; items of a `Map` and branches of a `Parallel` are `<line>/<position>.<number>`. */
export interface LineRef {
  runId: string;
  line: string;
}

/** What became of the step before. */
export type FlowEvent =
  | { kind: 'go' }
  /** The time of a `wait` has come. */
  | { kind: 'waited' }
  /** An action could not be started; the cause is a sentence. */
  | { kind: 'refused'; cause: string }
  | { kind: 'acted'; groups: { submissionIds: string[] }[]; taskGroupId: string; isTimedOut: boolean }
  /** An action over HTTP has ended; its status rests in the store. */
  | { kind: 'answered'; isTimedOut: boolean }
  /** All lines of a `Map` or `Parallel` have ended, or enough of them failed. */
  | { kind: 'joined' };

/** A state that was entered or left, for those who watch. */
export interface ShownState {
  name: string;
  type: string;
  state: 'running' | 'done' | 'failed' | 'caught' | 'retried';
  /** Unix milliseconds. */
  sinceMs: number;
}

export type FlowStep = {
  /** Counts the steps of the line; the next event is for this one. */
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
  /** Of the run, for people. */
  title: string;
  /** After continue-as-new: the step that is to be done. */
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

/** The submissions of an action, or the sentence that says why there are none. */
export type AcceptedAction = { groups: AcceptedSubmissions[] } | { refused: string };

/** What the workflows of runs ask of the service. */
export interface FlowActivities extends Pick<CallActivities, 'noteStarted' | 'observeCall'> {
  /** The step that a line begins, or after a resume goes on, with. */
  openLine(input: LineRef & { generation: number }): Promise<FlowStep>;
  /** Opens lines and runs their first states; `running` lines need a workflow of their own. In the order of `lines`. */
  openLines(input: { runId: string; lines: string[]; generation: number }): Promise<('succeeded' | 'failed' | 'running')[]>;
  advance(input: LineRef & { position: number; event: FlowEvent }): Promise<FlowStep>;
  /** Checks and stores the tasks of the action that the line is in; the same step is accepted once. */
  acceptAction(input: LineRef & { position: number }): Promise<AcceptedAction>;
  /**
   * The action at another action provider, from its start to its end. One attempt is one poll; the event is `answered` or
   * `refused`.
   */
  runHttpAction(input: LineRef & { position: number; waitTimeS: number }): Promise<FlowEvent>;
  /** Cancels the action of the line at its provider and releases it, as far as the provider allows. */
  stopHttpAction(input: LineRef & { position: number }): Promise<void>;
  endCancelled(input: { runId: string }): Promise<void>;
}
