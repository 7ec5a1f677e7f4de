import { taskHeadersSchema, type TaskHeaders } from '../../contracts/frames';
import { Attempts, type Attempt } from '../../endpoint/attempts';
import { failure, type Outcome } from '../../endpoint/runners/runner';

const TASK = '00000000-0000-8000-8000-000000000001';
const success: Outcome = { data: '11\n1', startedNs: 0, endedNs: 1 };

class FakeDelivery {
  acks = 0;
  requeues = 0;
  ack(): void {
    this.acks++;
  }
  nack(requeue: boolean): void {
    if (requeue) this.requeues++;
  }
}

const headers = (attempt: number): TaskHeaders =>
  taskHeadersSchema.parse({ function_uuid: TASK, task_uuid: TASK, 'funcx-attempt': attempt });

function receive(attempts: Attempts, number: number, nowMs = 0): { attempt: Attempt | undefined; delivery: FakeDelivery } {
  const delivery = new FakeDelivery();
  return { attempt: attempts.receive(TASK, headers(number), delivery, nowMs), delivery };
}

function receiveNew(attempts: Attempts, number = 1): { attempt: Attempt; delivery: FakeDelivery } {
  const { attempt, delivery } = receive(attempts, number);
  if (!attempt) throw new Error('expected a new attempt');
  return { attempt, delivery };
}

test('a task is acknowledged only after its answer is confirmed', () => {
  const attempts = new Attempts();
  const { attempt, delivery } = receiveNew(attempts);
  attempts.start(attempt, 0);
  attempts.finish(attempt, success);
  expect(delivery.acks).toBe(0);
  expect(attempts.heldNames()).toEqual([`${TASK}/1`]);
  attempts.answered(attempt);
  expect(delivery.acks).toBe(1);
  expect(attempts.heldNames()).toEqual([]);
});

test('a redelivery of a running attempt is not run again, and is the one that is acknowledged', () => {
  const attempts = new Attempts();
  const { attempt } = receiveNew(attempts);
  attempts.start(attempt, 0);
  const again = receive(attempts, 1);
  expect(again.attempt).toBeUndefined();
  attempts.finish(attempt, success);
  attempts.answered(attempt);
  expect(again.delivery.acks).toBe(1);
});

test('a newer attempt of a running task is answered by the run that is under way', () => {
  const attempts = new Attempts();
  const { attempt } = receiveNew(attempts);
  attempts.start(attempt, 0);
  expect(receive(attempts, 2).attempt).toBeUndefined();
  expect(attempts.runningNames()).toEqual([`${TASK}/2`]);
});

test('an older attempt of a held task is dropped', () => {
  const attempts = new Attempts();
  const { attempt } = receiveNew(attempts, 2);
  const older = receive(attempts, 1);
  expect(older.attempt).toBeUndefined();
  expect(older.delivery.acks).toBe(1);
  expect(attempt.number).toBe(2);
});

test('an attempt that was answered is acknowledged when it comes again, and its retry is run', () => {
  const attempts = new Attempts();
  const { attempt } = receiveNew(attempts);
  attempts.start(attempt, 0);
  attempts.finish(attempt, failure('RemoteExecutionError', 'no'));
  attempts.answered(attempt);
  const again = receive(attempts, 1);
  expect(again.attempt).toBeUndefined();
  expect(again.delivery.acks).toBe(1);
  expect(receive(attempts, 2).attempt).toBeDefined();
});

test('a retry that comes before the confirm of a failed answer is run', () => {
  const attempts = new Attempts();
  const { attempt } = receiveNew(attempts);
  attempts.start(attempt, 0);
  attempts.finish(attempt, failure('RemoteExecutionError', 'no'));
  const retry = receive(attempts, 2);
  expect(retry.attempt).toBeDefined();
  attempts.answered(attempt);
  expect(retry.delivery.acks).toBe(0);
});

test('a newer attempt that comes before the confirm of a good answer is not run', () => {
  const attempts = new Attempts();
  const { attempt } = receiveNew(attempts);
  attempts.start(attempt, 0);
  attempts.finish(attempt, success);
  const newer = receive(attempts, 2);
  expect(newer.attempt).toBeUndefined();
  attempts.answered(attempt);
  expect(newer.delivery.acks).toBe(1);
});

test('an attempt that is held for long is acknowledged early and still named by heartbeats', () => {
  const attempts = new Attempts();
  const { attempt, delivery } = receiveNew(attempts);
  attempts.start(attempt, 0);
  expect(attempts.acknowledgeOld(-1)).toBe(0);
  expect(attempts.acknowledgeOld(10)).toBe(1);
  expect(attempts.acknowledgeOld(10)).toBe(0);
  expect(delivery.acks).toBe(1);
  expect(attempts.heldNames()).toEqual([`${TASK}/1`]);
  attempts.finish(attempt, success);
  attempts.answered(attempt);
  expect(delivery.acks).toBe(1);
});

test('attempts that are given back go to the queue and cannot be answered any more', () => {
  const attempts = new Attempts();
  const { attempt, delivery } = receiveNew(attempts);
  expect(attempts.giveBack((one) => one.state === 'queued')).toEqual([attempt]);
  expect(delivery.requeues).toBe(1);
  expect(attempts.finish(attempt, success)).toBe(false);
  expect(attempts.heldNames()).toEqual([]);
});
