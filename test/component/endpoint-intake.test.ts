import type { Broker, ConsumerOptions, ReceivedMessage } from '../../broker';
import { encodeFrame } from '../../contracts/frames';
import type { AgentRegistration } from '../../contracts/http/v1';
import type { Answers } from '../../endpoint/answers';
import { Attempts } from '../../endpoint/attempts';
import type { Bodies } from '../../endpoint/bodies';
import { Intake } from '../../endpoint/intake';
import { failure, type Outcome, type Runner } from '../../endpoint/runners/runner';
import { Slots } from '../../endpoint/runners/slots';

/** An intake with a runner whose outcomes the test decides, and messages that count what happens to them. */

const taskId = (index: number): string => `00000000-0000-8000-8000-${String(index).padStart(12, '0')}`;
const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

let deliver: (index: number) => { acks: number; requeues: number };
let outcomes: ((outcome: Outcome) => void)[];
let sent: string[];
let paused: number;
let problems: string[];
let attempts: Attempts;
let intake: Intake;

beforeEach(async () => {
  outcomes = [];
  sent = [];
  paused = 0;
  problems = [];
  attempts = new Attempts();
  const runner: Runner = {
    run: () => new Promise((resolve) => outcomes.push(resolve)),
    warm: () => undefined,
    whyNotReady: () => Promise.resolve(undefined),
    stop: () => undefined,
    close: () => Promise.resolve(),
  };
  const broker = {
    consume: (options: ConsumerOptions) => {
      deliver = (index) => {
        const counts = { acks: 0, requeues: 0 };
        const headers = { function_uuid: taskId(0), task_uuid: taskId(index) };
        void options.onMessage({
          body: Buffer.from(encodeFrame({ message_type: 'task', data: { task_id: taskId(index), task_buffer: '4\nst\nf' } })),
          headers,
          ack: () => counts.acks++,
          nack: (requeue: boolean) => (counts.requeues += requeue ? 1 : 0),
        } as unknown as ReceivedMessage);
        return counts;
      };
      return Promise.resolve({ pause: () => Promise.resolve(paused++) });
    },
  } as unknown as Broker;
  intake = new Intake({
    broker,
    answers: { send: (attempt: { taskId: string }) => Promise.resolve(sent.push(attempt.taskId) > 0) } as unknown as Answers,
    attempts,
    bodies: {} as Bodies,
    slots: new Slots(1, () => ({ python: runner, javascript: runner, shell: runner })),
    registration: () => ({ task_queue: 'tasks', max_body_bytes: 1_000 }) as AgentRegistration,
    prefetch: 2,
    onCannotStart: (_kind, reason) => problems.push(reason),
    log,
  });
  await intake.open();
});

const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));

test('when no worker can be started, no task fails: all go back to the queue, and no more are taken', async () => {
  const running = deliver(1);
  const queued = deliver(2);
  const cannotStart = { ...failure('EndpointFailed', 'No module named dill'), cannotStart: 'No module named dill' };
  outcomes[0]?.(cannotStart);
  await settled();
  outcomes[1]?.(cannotStart); // the second call was next in the slot
  await settled();
  expect([running.requeues, queued.requeues]).toEqual([1, 1]);
  expect([sent, attempts.heldNames(), problems, paused]).toEqual([[], [], ['No module named dill'], 1]);
  expect(deliver(3).requeues).toBe(1);
  await intake.open();
  deliver(4);
  outcomes.at(-1)?.({ data: '11\n1', startedNs: 0, endedNs: 1 });
  await settled();
  expect(sent).toEqual([taskId(4)]);
});

const interrupted: Outcome = { ...failure('RemoteExecutionError', 'KeyboardInterrupt'), isInterrupted: true };

test('a task that is interrupted together with its agent is given back, not answered', async () => {
  const running = deliver(1);
  outcomes[0]?.(interrupted);
  await intake.close();
  await intake.whenIdle();
  expect([running.requeues, sent]).toEqual([1, []]);
});

test('a function that interrupts itself has its KeyboardInterrupt as the result', async () => {
  const running = deliver(1);
  outcomes[0]?.(interrupted);
  for (const end = Date.now() + 5_000; running.acks === 0 && Date.now() < end;) await settled();
  expect([running.acks, sent]).toEqual([1, [taskId(1)]]);
});
