import type { FlowActivities, FlowEvent, FlowStep } from '../contracts/flow-steps';
import { NeedsReference } from '../flows';
import { recordRun } from '../platform/store/flow-run-progress';
import { deleteLines, insertLines, listLines, lockLine, saveLine, type LineRow } from '../platform/store/flow-lines';
import { inTransaction } from '../platform/store/transactions';
import type { ActivityDeps } from './deps';
import { enterNext } from './flow-enter';
import { LineStep } from './flow-line-step';
import type { Pending } from './flow-pending';
import { createReferences, type StepResults } from './flow-references';
import { resolve } from './flow-resolve';
import { readActionResult, type ComputeOutcome } from './flow-results';
import { createRuns, type Run } from './flow-runs';

/**
 * Steps of a run. Everything that a state computes happens here, in one transaction with what it writes. So no value enters
 * Temporal's history, a change of the flow language never breaks a replay, and a repeated request for a step is answered from the
 * row of the line.
 */

export type FlowLineActivities = Pick<FlowActivities, 'openLine' | 'openLines' | 'advance'>;

/** One activity runs at most this many states, for at most this long. */
const MAX_STATES_A_STEP = 250;
const MAX_STEP_MS = 1_000;

export function createFlowLineActivities(deps: ActivityDeps): FlowLineActivities {
  const { db, config } = deps;
  const runs = createRuns(db);
  const references = createReferences(db);
  const allowedUrls = config.FUNCX_FLOWS_HTTP_ALLOW;

  const activities: FlowLineActivities = {
    async openLine({ runId, line, generation }) {
      const run = await runs.read(runId);
      return inTransaction(db, async (client) => {
        if (line === '') {
          const first = {
            line,
            scope: [],
            context: {},
            state: run.definition.StartAt,
            data: JSON.stringify(run.input),
            generation: 0,
          };
          await insertLines(client, runId, [first]);
        }
        const row = await lockLine(client, runId, line);
        if (!row)
          throw new Error(`line ${line} of run ${runId} is not in the store; it may have been removed after its retention time`);
        if (row.status === 'succeeded') return { position: row.position, shown: [], kind: 'succeeded', entered: row.entered };
        if (row.generation >= generation) return (row.step ?? more(row)) as FlowStep;
        // A resumed run enters the state in which it ended again. Lines that have succeeded stay ended.
        const pending = row.pending as Pending | null;
        const goesOn = pending?.kind === 'map' || pending?.kind === 'parallel';
        const kept = goesOn ? (row.step as FlowStep) : undefined;
        row.position++;
        row.generation = generation;
        row.status = 'running';
        row.error = null;
        if (!goesOn) row.pending = null;
        const step: FlowStep = kept?.kind === 'lines' ? { ...kept, position: row.position } : more(row);
        row.step = step;
        await saveLine(client, runId, row);
        return step;
      });
    },

    async openLines({ runId, lines, generation }) {
      const ends: ('succeeded' | 'failed' | 'running')[] = [];
      for (const line of lines) {
        let step = await activities.openLine({ runId, line, generation });
        if (step.kind === 'more')
          step = await activities.advance({ runId, line, position: step.position, event: { kind: 'go' } });
        ends.push(step.kind === 'succeeded' || step.kind === 'failed' ? step.kind : 'running');
      }
      return ends;
    },

    async advance({ runId, line, position, event }) {
      const run = await runs.read(runId);
      const loaded = references.open(run.ownerId);
      try {
        for (;;) {
          const startedMs = Date.now();
          try {
            const outcome = event.kind === 'acted' ? await readOutcome(run, line, event) : undefined;
            return await inTransaction(db, async (client) => {
              const row = await lockLine(client, runId, line);
              if (!row)
                throw new Error(
                  `line ${line} of run ${runId} is not in the store; it may have been removed after its retention time`,
                );
              if (row.position > position) return row.step as FlowStep; // repeats a step whose answer was lost
              const step = new LineStep(run, row, loaded, allowedUrls);
              await takeStep(step, event, outcome, loaded, (prefix) => listLines(client, runId, prefix));
              const next = step.finish();
              await saveLine(client, runId, row);
              if (step.newLines.length > 0) await insertLines(client, runId, step.newLines);
              for (const prefix of step.linePrefixesToDelete) await deleteLines(client, runId, prefix);
              await recordRun(client, runId, step.log.update(line === ''));
              return next;
            });
          } catch (error) {
            if (!(error instanceof NeedsReference)) throw error;
            await loaded.load(error.taskId, Date.now() - startedMs);
          }
        }
      } finally {
        loaded.release();
      }
    },
  };
  return activities;

  async function readOutcome(run: Run, line: string, event: FlowEvent & { kind: 'acted' }): Promise<ComputeOutcome | undefined> {
    return readActionResult(db, { runId: run.runId, line }, event);
  }
}

const more = (row: LineRow): FlowStep => ({ position: row.position, shown: [], kind: 'more' });

/** Applies the event of the previous step, then runs states until the workflow is needed. */
async function takeStep(
  step: LineStep,
  event: FlowEvent,
  outcome: ComputeOutcome | undefined,
  loaded: StepResults,
  readLines: Parameters<typeof resolve>[3],
): Promise<void> {
  const startedMs = Date.now();
  if (step.row.status !== 'running') {
    step.nextAction = step.ended();
    return;
  }
  let states = 0;
  const pending = step.row.pending as Pending | null;
  if (pending) {
    await resolve(step, event, outcome, readLines);
    if (pending.kind !== 'retry') states++; // a retry enters the state again, which is still to do
  }
  while (!step.nextAction) {
    // What was loaded is dropped with the step, so a loop can read one large result after another.
    const isLong = states >= MAX_STATES_A_STEP || Date.now() - startedMs > MAX_STEP_MS || (states > 0 && loaded.isLarge);
    if (isLong) step.nextAction = { kind: 'more' };
    else enterNext(step);
    states++;
  }
}
