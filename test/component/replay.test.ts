import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { bundleWorkflowCode, DefaultLogger, Runtime, Worker, type WorkflowBundle } from '@temporalio/worker';

import { WORKFLOW } from '../../contracts/names';

/** What ran yesterday must go on today: every recorded history replays with the workflows as they are now. */

const FOLDER = join(__dirname, '..', 'histories');
const BUNDLE_MS = 60_000;
/** Of one history, on a busy machine. */
const REPLAY_MS = 30_000;

interface Recorded {
  workflowId: string;
  history: { events: HistoryEvent[] };
}
interface HistoryEvent {
  eventType: string;
  workflowExecutionStartedEventAttributes?: { workflowType: { name: string } };
}

const names = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.json'))
  .map((name) => name.slice(0, -'.json'.length));
const read = (name: string): Recorded => JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')) as Recorded;

describe('recorded histories', () => {
  let workflowBundle: WorkflowBundle & { code: string };

  beforeAll(async () => {
    const logger = new DefaultLogger('ERROR');
    Runtime.install({ logger });
    workflowBundle = await bundleWorkflowCode({ workflowsPath: join(__dirname, '..', '..', 'workflows', 'index.ts'), logger });
  }, BUNDLE_MS);

  test.each(names)(
    '%s replays with the workflows of today',
    async (name) => {
      const { workflowId, history } = read(name);
      await Worker.runReplayHistory({ workflowBundle }, history, workflowId);
    },
    REPLAY_MS,
  );

  test('a history that does not fit is noticed, so that the others mean something', async () => {
    const { workflowId, history } = read('submission-single-call');
    const changed = structuredClone(history);
    changed.events[0]!.workflowExecutionStartedEventAttributes!.workflowType.name = WORKFLOW.endpoint; // every history begins so
    await expect(Worker.runReplayHistory({ workflowBundle }, changed, workflowId)).rejects.toThrow(/nondeterminism/i);
  });

  test('there is one of both workflows and of every way in which a submission ends', () => {
    const types = names.map((name) => read(name).history.events[0]?.workflowExecutionStartedEventAttributes?.workflowType.name);
    expect(types).toEqual(expect.arrayContaining([WORKFLOW.submission, WORKFLOW.endpoint]));
    const ends = new Set(names.map((name) => read(name).history.events.at(-1)?.eventType));
    expect([...ends]).toEqual(
      expect.arrayContaining([
        'EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED',
        'EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED',
        'EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW',
      ]),
    );
  });
});
