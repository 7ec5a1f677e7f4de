import { BenchClient, NOOP } from './bench-client';
import { figuresOf, millisecondsOf, print, round } from './figures';
import { machine, type MeasuredSystem } from './system';
import { startPlainTemporal } from './temporal';

/**
 * Compares one warm call (HTTP submit to AMQP result, a Python function that does nothing) with the round trip of an empty
 * Temporal workflow on the same server. The run alternates between both, so other load on the machine affects both alike.
 */

const WARM_UP = 20;

export async function latency(system: MeasuredSystem, options: { calls: number; json: boolean }): Promise<void> {
  const client = await BenchClient.connect(system);
  const temporal = await startPlainTemporal(system.temporalAddress);
  try {
    const functionId = await client.register('noop', NOOP);
    await client.warmUp(functionId);
    const call = async (): Promise<void> => void (await (await client.submit(functionId, 1))[0]);
    for (let n = 0; n < WARM_UP; n++) {
      await call();
      await temporal.runEmpty();
    }
    const before = await client.metrics();
    const calls: number[] = [];
    const workflows: number[] = [];
    for (let n = 0; n < options.calls; n++) {
      calls.push(await millisecondsOf(call));
      workflows.push(await millisecondsOf(temporal.runEmpty));
    }
    const after = await client.metrics();
    const starts = (eager: boolean): number => {
      const name = `funcx_workflow_starts_total{eager="${eager}"}`;
      return (after.get(name) ?? 0) - (before.get(name) ?? 0);
    };
    const own = figuresOf(calls);
    const empty = figuresOf(workflows);
    const ratio = round(own.p50_ms / empty.p50_ms, 2);
    if (options.json) {
      console.log(JSON.stringify({ call: own, empty_workflow: empty, ratio, eager: starts(true), not_eager: starts(false) }));
      return;
    }
    print([
      ['measured', `${options.calls} calls and as many empty workflows, in turn, one at a time, after ${WARM_UP} of each`],
      ['system', `${system.origin}; ${machine()}; endpoint "${system.endpointName}"`],
      ['single call', `p50 ${own.p50_ms} ms, p95 ${own.p95_ms} ms`],
      ['empty workflow', `p50 ${empty.p50_ms} ms, p95 ${empty.p95_ms} ms`],
      ['ratio of p50', ratio],
      ['workflow starts', `${starts(true)} eager, ${starts(false)} not`],
    ]);
  } finally {
    await client.close();
    await temporal.close();
  }
}
