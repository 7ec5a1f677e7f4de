import type { Client, WorkflowHandle } from '@temporalio/client';
import type { temporal } from '@temporalio/proto';

import { SIGNAL } from '../../contracts/names';
import { until } from './until';

/** The runs of a workflow that continues as new. */

export type Event = temporal.api.history.v1.IHistoryEvent;

/** The events of each run, the latest run first. */
export async function historiesOf(client: Client, workflowId: string): Promise<Event[][]> {
  const runs: Event[][] = [];
  let runId: string | null | undefined = (await client.workflow.getHandle(workflowId).describe()).runId;
  while (runId) {
    const { events } = await client.workflow.getHandle(workflowId, runId).fetchHistory();
    runs.push(events ?? []);
    runId = events?.[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId;
  }
  return runs;
}

/** Nudges a submission until it has continued as a new run. */
export async function nudgeUntilNewRun(handle: WorkflowHandle): Promise<void> {
  const { runId } = await handle.describe();
  await until('it continues as a new run', async () => {
    // Many in one go: each adds an event, and the run continues as new when its history is long.
    for (let n = 0; n < 20; n++) await handle.signal(SIGNAL.nudge);
    return (await handle.describe()).runId !== runId;
  });
}

/** What the Temporal UI writes beside the timers of a run. */
export const timerSummariesOf = (events: readonly Event[]): string[] =>
  events
    .filter((event) => event.timerStartedEventAttributes)
    .map((event) => JSON.parse(Buffer.from(event.userMetadata?.summary?.data ?? []).toString() || '""') as string);
