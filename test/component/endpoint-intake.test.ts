import type { Broker, ConsumerOptions, ReceivedMessage } from '../../broker';
import { encodeBatch } from '../../contracts/batches';
import { encodeFrame } from '../../contracts/frames';
import type { AgentRegistration } from '../../contracts/http/v1';
import type { Answers } from '../../endpoint/answers';
import { Attempts } from '../../endpoint/attempts';
import type { FunctionCodes } from '../../endpoint/function-codes';
import { Intake } from '../../endpoint/intake';
import { failure, type Outcome, type Runner } from '../../endpoint/runners/runner';
import { Slots } from '../../endpoint/runners/slots';

/** An intake with a runner whose outcomes the test decides, and messages that count what happens to them. */

const taskId = (index: number): string => `00000000-0000-8000-8000-${String(index).padStart(12, '0')}`;
const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

interface Counts {
  acks: number;
  requeues: number;
  rejects: number;
}

const task = (index: number) => ({
  headers: { function_uuid: taskId(0), task_uuid: taskId(index) },
  body: encodeFrame({ message_type: 'task', data: { task_id: taskId(index), task_buffer: '4\nst\nf' } }),
});
let deliver: (index: number) => Counts;
let deliverBatch: (...messages: { headers: Record<string, unknown>; body: Uint8Array }[]) => Counts;
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
    readinessFor: () => 'ready',
    prepareFor: () => undefined,
    warm: () => undefined,
    whyNotReady: () => Promise.resolve(undefined),
    stop: () => undefined,
    close: () => Promise.resolve(),
  };
  const broker = {
    consume: (options: ConsumerOptions) => {
      const receive = (headers: Record<string, unknown>, body: Uint8Array): Counts => {
        const counts = { acks: 0, requeues: 0, rejects: 0 };
        void options.onMessage({
          body: Buffer.from(body),
          headers,
          ack: () => counts.acks++,
          nack: (requeue: boolean) => (requeue ? counts.requeues++ : counts.rejects++),
        } as unknown as ReceivedMessage);
        return counts;
      };
      deliver = (index) => receive(task(index).headers, task(index).body);
      deliverBatch = (...messages) => receive({}, encodeBatch(messages));
      return Promise.resolve({ pause: () => Promise.resolve(paused++) });
    },
  } as unknown as Broker;
  intake = new Intake({
    broker,
    answers: { send: (attempt: { taskId: string }) => Promise.resolve(sent.push(attempt.taskId) > 0) } as unknown as Answers,
    attempts,
    codes: {} as FunctionCodes,
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

const success: Outcome = { data: '11\n1', startedNs: 0, endedNs: 1 };

test('a batch is acknowledged once each of its tasks has a confirmed result', async () => {
  const batch = deliverBatch(task(1), task(2));
  expect(attempts.heldNames()).toEqual([`${taskId(1)}/1`, `${taskId(2)}/1`]);
  outcomes[0]?.(success);
  await settled();
  expect([sent, batch.acks]).toEqual([[taskId(1)], 0]);
  outcomes[1]?.(success);
  await settled();
  expect([sent, batch.acks]).toEqual([[taskId(1), taskId(2)], 1]);
});

test('a batch that is delivered again runs nothing that ran or runs, and is acknowledged', async () => {
  deliverBatch(task(1), task(2), task(3));
  outcomes[0]?.(success);
  await settled();
  const again = deliverBatch(task(1), task(2), task(3));
  for (const n of [1, 2]) {
    outcomes[n]?.(success);
    await settled();
  }
  expect([sent, outcomes.length, again.acks]).toEqual([[taskId(1), taskId(2), taskId(3)], 3, 1]);
});

test('a malformed task of a batch goes to the dead letters with the batch, after the others have run', async () => {
  const batch = deliverBatch({ headers: {}, body: Buffer.from('nonsense') }, task(2));
  expect(batch.rejects).toBe(0);
  outcomes[0]?.(success);
  await settled();
  expect([sent, batch]).toEqual([[taskId(2)], { acks: 0, requeues: 0, rejects: 1 }]);
  expect(deliverBatch().rejects).toBe(1);
});

test('an agent that drains finishes a batch that has begun, and gives back one that has not', async () => {
  const begun = deliverBatch(task(1), task(2));
  const waiting = deliverBatch(task(3), task(4));
  await intake.close();
  expect([begun.requeues, waiting.requeues]).toEqual([0, 1]);
  const idle = intake.whenIdle();
  for (const n of [0, 1]) {
    outcomes[n]?.(success);
    await settled();
  }
  await idle;
  expect([sent, begun.acks]).toEqual([[taskId(1), taskId(2)], 1]);
});

test('when no worker can be started, a batch that has begun goes back as well, and what runs of it runs once', async () => {
  const batch = deliverBatch(task(1), task(2));
  outcomes[0]?.(success);
  await settled();
  outcomes[1]?.({ ...failure('EndpointFailed', 'No module named dill'), cannotStart: 'No module named dill' });
  await settled();
  expect([sent, batch]).toEqual([[taskId(1)], { acks: 0, requeues: 1, rejects: 0 }]);
  await intake.open();
  const again = deliverBatch(task(1), task(2));
  outcomes[2]?.(success);
  await settled();
  expect([sent, again.acks]).toEqual([[taskId(1), taskId(2)], 1]);
});
