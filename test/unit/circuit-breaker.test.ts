import { CircuitOpenError, createCircuit } from '../../platform/circuit-breaker';

class Outage extends Error {}
const RETRY_MS = 1_000;

function start() {
  const clock = { ms: 0, calls: 0 };
  const isOutage = (error: unknown): boolean => error instanceof Outage;
  const circuit = createCircuit({ engine: 'Temporal', outages: 2, retryMs: RETRY_MS, isOutage }, () => clock.ms);
  const run = (error?: Error) =>
    circuit(async () => {
      clock.calls++;
      if (error) throw error;
      return 'answer';
    });
  return { clock, run };
}

test('after two outages in a row, calls fail at once and do not reach the engine', async () => {
  const { clock, run } = start();
  await expect(run(new Outage())).rejects.toThrow(Outage);
  await expect(run(new Outage())).rejects.toThrow(Outage);
  await expect(run()).rejects.toThrow(CircuitOpenError);
  expect(clock.calls).toBe(2);
});

test('one call tries again after the pause, and its success lets every call through', async () => {
  const { clock, run } = start();
  for (const _ of [1, 2]) await run(new Outage()).catch(() => undefined);
  clock.ms += RETRY_MS;
  const trial = run();
  await expect(run()).rejects.toThrow(CircuitOpenError);
  await expect(trial).resolves.toBe('answer');
  await expect(run()).resolves.toBe('answer');
});

test('a trial that fails opens the circuit for another pause', async () => {
  const { clock, run } = start();
  for (const _ of [1, 2]) await run(new Outage()).catch(() => undefined);
  clock.ms += RETRY_MS;
  await expect(run(new Outage())).rejects.toThrow(Outage);
  clock.ms += RETRY_MS - 1;
  await expect(run()).rejects.toThrow(CircuitOpenError);
});

test('errors that the engine answered with do not open the circuit', async () => {
  const { run } = start();
  for (const _ of [1, 2, 3]) await expect(run(new Error('not found'))).rejects.toThrow('not found');
  await expect(run()).resolves.toBe('answer');
});
