import { setTimeout as delay } from 'node:timers/promises';

import { BenchAgent } from '../agent';
import { BenchClient, NOOP } from '../bench-client';
import { millisecondsOf, percentile, round } from '../figures';
import { OURS, type Measure } from '../measures';
import { usageOf, type Usage } from '../usage';
import type { Part } from './part';

/** What idle agents cost the service: their connections, queues and heartbeats. */

const CONCURRENT_STARTS = 4;

export const endpointsPart: Part = async ({ system, scale, say }) => {
  const client = await BenchClient.connect(system);
  const agents = Array.from(
    { length: scale.idleAgents },
    (_, n) => new BenchAgent(system, client, `idle-${n}`, { FUNCX_WORKERS: '1' }),
  );
  try {
    const functionId = await client.register('noop', NOOP);
    await client.warmUp(functionId);
    const typical = async (): Promise<number> => {
      const times: number[] = [];
      for (let n = 0; n < scale.latencyCalls; n++) {
        times.push(await millisecondsOf(async () => (await client.submit(functionId, 1))[0]));
      }
      return percentile(times, 0.5);
    };
    const observe = async (): Promise<{ usage: Map<string, Usage>; cpu: Map<string, number> }> => {
      const from = usageOf(system);
      await delay(scale.idleSeconds * 1_000);
      const usage = usageOf(system);
      const cpu = [...usage].map(([name, { cpuS }]) => [name, cpuS - (from.get(name)?.cpuS ?? 0)] as const);
      return { usage, cpu: new Map(cpu) };
    };
    const alone = await typical();
    say(`the local agent alone: p50 ${round(alone)} ms; its idle cost is measured for ${scale.idleSeconds} s`);
    const before = await observe();
    const queue = [...agents];
    let started = 0;
    await Promise.all(
      Array.from({ length: CONCURRENT_STARTS }, async () => {
        for (let agent = queue.shift(); agent; agent = queue.shift()) {
          await agent.start();
          say(`${++started} of ${agents.length} agents are online`);
        }
      }),
    );
    const beside = await typical();
    say(`beside ${agents.length} idle agents: p50 ${round(beside)} ms; their idle cost is measured for ${scale.idleSeconds} s`);
    const after = await observe();
    const measures: Measure[] = [
      {
        part: 'endpoints',
        what: `one warm call beside ${agents.length} idle agents, p50`,
        unit: 'ms',
        rounds: { [OURS]: [beside], 'no other agent': [alone] },
        reference: 'no other agent',
      },
    ];
    for (const name of after.usage.keys()) {
      if (name === 'endpoint') continue;
      const cpu = (after.cpu.get(name) ?? 0) - (before.cpu.get(name) ?? 0);
      const memory = (after.usage.get(name)?.memoryMb ?? 0) - (before.usage.get(name)?.memoryMb ?? 0);
      const perAgent = (value: number): Record<string, number[]> => ({ [OURS]: [round(value / agents.length, 3)] });
      measures.push(
        {
          part: 'endpoints',
          what: `CPU of ${name} for an idle agent`,
          unit: 'ms/s',
          rounds: perAgent((cpu / scale.idleSeconds) * 1_000),
        },
        { part: 'endpoints', what: `memory of ${name} for an idle agent`, unit: 'MB', rounds: perAgent(memory) },
      );
    }
    return measures;
  } finally {
    await Promise.all(agents.map((agent) => agent.remove()));
    await client.close();
  }
};
