import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { bundleWorkflowCode, DefaultLogger, Runtime, Worker, type WorkflowBundle } from '@temporalio/worker';

import { CALL_WORKFLOW } from '../../contracts/calls';
import { FLOW_WORKFLOW } from '../../contracts/flows';
import { WORKFLOW } from '../../contracts/names';
import { SCHEDULE_WORKFLOW } from '../../contracts/schedules';
import { NO_TEMPORALIO, TEMPORALIO, testUnless } from '../helpers/conditions';

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
  eventId: string;
  eventType: string;
  workflowExecutionStartedEventAttributes?: { workflowType: { name: string } };
  workflowExecutionCompletedEventAttributes?: { workflowTaskCompletedEventId: string };
  markerRecordedEventAttributes?: {
    workflowTaskCompletedEventId: string;
    details: Record<'data' | 'result', { payloads: { data: string }[] }>;
  };
}

const ROOT = join(__dirname, '..', '..');
const PACKAGE = join(ROOT, 'sdk', 'workflow', 'index.ts');
const namesIn = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .map((name) => name.slice(0, -'.json'.length));
const names = namesIn(FOLDER);
const read = (name: string): Recorded => JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')) as Recorded;

const decoded = (payload: { data: string } | undefined): string => Buffer.from(payload?.data ?? '', 'base64').toString();
const encoded = (text: string): string => Buffer.from(text).toString('base64');

const logger = new DefaultLogger('ERROR');
beforeAll(() => Runtime.install({ logger }));

describe('recorded histories', () => {
  let workflowBundle: WorkflowBundle & { code: string };

  beforeAll(async () => {
    workflowBundle = await bundleWorkflowCode({
      workflowsPath: join(ROOT, 'workflows', 'index.ts'),
      payloadConverterPath: join(ROOT, 'workflows', 'call-payloads.ts'),
      logger,
    });
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

  test('a submission that is cancelled after its last answer ends as done', async () => {
    const { workflowId, history } = read('submission-cancelled-while-running');
    const { history: completed } = read('submission-single-call');
    /** The recorded cancellation, but with these counts of tasks when the open ones have ended, and with COMPLETED as its end. */
    const endedAs = (counts: object): Recorded['history'] => {
      const events = structuredClone(history.events);
      const markers = events.flatMap(({ markerRecordedEventAttributes: marker }) => marker ?? []);
      const observed = markers.find(({ details }) => decoded(details.data.payloads[0]).includes('"observe"'))!; // the only one
      const progress = observed.details.result.payloads[0]!; // an activity has one result
      progress.data = encoded(JSON.stringify({ ...(JSON.parse(decoded(progress)) as object), counts }));
      const end = structuredClone(completed.events.at(-1)!); // every history has events
      end.eventId = events.pop()!.eventId; // CANCELED
      const { workflowTaskCompletedEventId } = observed;
      Object.assign(end.workflowExecutionCompletedEventAttributes!, { workflowTaskCompletedEventId });
      return { events: [...events, end] };
    };
    await Worker.runReplayHistory({ workflowBundle }, endedAs({ succeeded: 1 }), workflowId);
    // With a cancelled task, the workflow ends as cancelled.
    await expect(Worker.runReplayHistory({ workflowBundle }, endedAs({ cancelled: 1 }), workflowId)).rejects.toThrow(
      /nondeterminism/i,
    );
  });

  test('there is one of every workflow, of every type of state, and of every way in which a submission ends', () => {
    const types = names.map((name) => read(name).history.events[0]?.workflowExecutionStartedEventAttributes?.workflowType.name);
    const every = [WORKFLOW, CALL_WORKFLOW, FLOW_WORKFLOW].flatMap((kind) => Object.values(kind));
    expect(types).toEqual(expect.arrayContaining([...every, SCHEDULE_WORKFLOW]));
    for (const type of ['pass', 'expression-eval', 'choice', 'wait', 'fail', 'action', 'map', 'parallel'])
      expect(names).toContain(`flow-${type}`);
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

describe('recorded histories of the examples', () => {
  const PYTHON = 'python-pipeline';
  const examples = namesIn(join(FOLDER, 'examples'));
  let workflowBundle: WorkflowBundle & { code: string };

  beforeAll(async () => {
    workflowBundle = await bundleWorkflowCode({
      workflowsPath: join(ROOT, 'test', 'fixtures', 'example-workflows.ts'),
      // The package as it is in this repository, not as it was last compiled.
      webpackConfigHook: (config) => ({
        ...config,
        resolve: { ...config.resolve, alias: { ...config.resolve?.alias, '@funcx-temporal/sdk/workflow': PACKAGE } },
      }),
      logger,
    });
  }, BUNDLE_MS);

  test('there is one of every example that has a workflow', () => {
    const folders = readdirSync(join(ROOT, 'examples'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
    const hasWorkflow = (name: string): boolean =>
      readdirSync(join(ROOT, 'examples', name)).some((file) => /^workflows\.(ts|py)$/.test(file));
    expect(examples.sort()).toEqual(
      folders
        .map(({ name }) => name)
        .filter(hasWorkflow)
        .sort(),
    );
  });

  test.each(examples.filter((name) => name !== PYTHON))('the pipeline of %s replays with its code of today', async (name) => {
    const { workflowId, history } = read(`examples/${name}`);
    await Worker.runReplayHistory({ workflowBundle }, history, workflowId);
  });

  testUnless(NO_TEMPORALIO)('the pipeline in Python replays with its code of today', async () => {
    const args = [join(ROOT, 'test', 'fixtures', 'pipelines', 'replay.py'), join(FOLDER, 'examples', `${PYTHON}.json`)];
    const env = {
      ...process.env,
      PYTHONPATH: `${join(ROOT, 'examples', PYTHON)}:${join(ROOT, 'python')}`,
      PYTHONDONTWRITEBYTECODE: '1',
    };
    expect(execFileSync(join(TEMPORALIO, 'bin', 'python'), args, { encoding: 'utf8', env })).toBe('replayed\n');
  });
});
