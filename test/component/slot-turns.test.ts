import { packBuffer } from '../../contracts/packing';
import type { Call, Outcome, Readiness, Runner } from '../../endpoint/runners/runner';
import { Slots } from '../../endpoint/runners/slots';

/** In which order the slots of an agent run the calls of several owners, with runners that end when told to. */

class FakeRunner implements Runner {
  readonly prepared: string[] = [];
  #end: ((outcome: Outcome) => void) | undefined;

  constructor(
    private readonly order: string[],
    private readonly readiness: (owner: string) => Readiness,
  ) {}

  run(call: Call): Promise<Outcome> {
    this.order.push(call.owner);
    return new Promise((resolve) => (this.#end = resolve));
  }

  end(): void {
    this.#end?.({ data: '', startedNs: 0, endedNs: 1 });
  }

  readinessFor(owner: string): Readiness {
    return this.readiness(owner);
  }

  prepareFor(owner: string): void {
    this.prepared.push(owner);
  }

  warm(): void {}
  async whyNotReady(): Promise<undefined> {}
  stop(): void {}
  async close(): Promise<void> {}
}

function startSlot(readiness: (owner: string) => Readiness = () => 'ready'): {
  slots: Slots;
  order: string[];
  runner: FakeRunner;
} {
  const order: string[] = [];
  const runner = new FakeRunner(order, readiness);
  return { slots: new Slots(1, () => ({ python: runner, javascript: runner, shell: runner })), order, runner };
}

let tasks = 0;
function add(slots: Slots, owner: string, kind = 'st'): string {
  const taskId = String(++tasks);
  const buffer = packBuffer(kind, 'f:def f(): pass');
  const nothing = (): void => undefined;
  slots.add({ taskId, owner, buffer, maxResultChars: 1, onStart: nothing, onOutcome: nothing, onWithdrawn: nothing });
  return taskId;
}

async function endCalls(runner: FakeRunner, count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    runner.end();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('a call of one owner does not wait for the many calls that another owner has queued', async () => {
  const { slots, order, runner } = startSlot();
  for (let n = 0; n < 100; n++) add(slots, 'large');
  add(slots, 'small');
  await endCalls(runner, 2);
  expect(order.slice(0, 3)).toEqual(['large', 'large', 'small']); // the first call ran at once, the second had its turn before
  await endCalls(runner, 98);
  expect(order).toHaveLength(101);
});

test('owners take turns, whatever kinds of functions they call', async () => {
  const { slots, order, runner } = startSlot();
  for (let n = 0; n < 3; n++) for (const owner of ['a', 'b', 'c']) add(slots, owner, n === 1 ? 'js' : 'st');
  await endCalls(runner, 8);
  expect([...order].sort()).toEqual(['a', 'a', 'a', 'b', 'b', 'b', 'c', 'c', 'c']);
  for (const three of [order.slice(1, 4), order.slice(4, 7)]) expect(new Set(three).size).toBe(3);
});

test('calls of one owner run in order of arrival', async () => {
  const { slots, runner } = startSlot();
  const started: string[] = [];
  for (const taskId of ['1', '2', '3']) {
    const nothing = (): void => undefined;
    const buffer = packBuffer('st', 'f:def f(): pass');
    const onStart = (): number => started.push(taskId);
    slots.add({ taskId, owner: 'own', buffer, maxResultChars: 1, onStart, onOutcome: nothing, onWithdrawn: nothing });
  }
  await endCalls(runner, 2);
  expect(started).toEqual(['1', '2', '3']);
});

test('an owner who needs a new worker lets others pass, and one is started for it', async () => {
  const { slots, order, runner } = startSlot((owner) => (owner === 'new' ? 'start' : 'ready'));
  add(slots, 'warm');
  add(slots, 'new');
  add(slots, 'warm');
  await endCalls(runner, 1);
  expect(order).toEqual(['warm', 'warm']);
  expect(runner.prepared).toEqual(['new']);
  await endCalls(runner, 1);
  expect(order).toEqual(['warm', 'warm', 'new']);
});

test('an owner with one busy worker gets another one, although other owners have idle workers and more calls', async () => {
  jest.useFakeTimers({ doNotFake: ['setImmediate'] });
  let isBusy = false;
  const { slots, order, runner } = startSlot((owner) => (owner === 'few' && isBusy ? 'start' : 'ready'));
  for (let n = 0; n < 200; n++) for (const owner of ['many', 'few']) add(slots, owner);
  // The one worker of the owner is busy most of the time, and has a turn in between.
  const turnsWithNewWorker: number[] = [];
  for (let n = 0; n < 60; n++) {
    isBusy = n % 3 > 0;
    await endCalls(runner, 1);
    if (isBusy && order.at(-1) === 'few') turnsWithNewWorker.push(n);
    jest.advanceTimersByTime(100);
  }
  jest.useRealTimers();
  expect(turnsWithNewWorker).toHaveLength(2); // one every two seconds
});

test('a withdrawn call does not run', async () => {
  const { slots, order, runner } = startSlot();
  add(slots, 'a');
  const withdrawn = add(slots, 'b');
  add(slots, 'c');
  slots.withdraw(withdrawn);
  await endCalls(runner, 2);
  expect(order).toEqual(['a', 'c']);
});
