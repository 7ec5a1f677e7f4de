import { setTimeout as delay } from 'node:timers/promises';

import { openStore, openTemporal } from '../helpers/system';
import { until } from '../helpers/until';
import { keyOf } from './calls';
import { checkAnswers, checkRepeats, type SubmitterRecord, type Violation } from './check-answers';
import { checkBroker, countConnectionsAtStart } from './check-broker';
import { checkLosses, findLeftovers, readTasks, type Span } from './check-store';
import { checkTemporal, keepHistories } from './check-temporal';
import { inflict, untilAllServe } from './faults';
import type { Scale } from './options';
import type { Step } from './plan';
import type { Submitter } from './submitter';
import { readEvents } from './submitter-log';
import type { ChaosSystem } from './system';

/** The run itself: each step of the plan under load, then the answers, then the checks. */

const POLL_INTERVAL_MS = 1_000;
const REATTACH_MS = 90_000;
const ACCEPTED_WITHIN_MS = 5_000;
const WARM_WITHIN_MS = 90_000;

export interface Outcome {
  violations: Violation[];
  /** Stored tasks that no submitter's log names: accepted, but the answer to the request was lost. */
  unknown: number;
  stored: number;
  lost: number;
}

export async function runPlan(
  system: ChaosSystem,
  plan: readonly Step[],
  submitters: readonly Submitter[],
  scale: Scale,
  say: (line: string) => void,
): Promise<Outcome> {
  const connections = await countConnectionsAtStart();
  await warmUp(submitters);
  const agentFaults: Span[] = [];
  const startedMs = Date.now();
  for (const [index, step] of plan.entries()) {
    const before = acceptedBy(submitters);
    share(step.tasks, submitters);
    if (step.meetsWork) await untilAccepted(submitters, before);
    await delay(step.delayMs);
    const fromMs = Date.now();
    await inflict(step, system.disks);
    await untilAllServe();
    const toMs = Date.now();
    if (step.part === 'endpoint') agentFaults.push({ fromMs, toMs });
    say(progress(index, plan.length, step, toMs - fromMs, toMs - startedMs, submitters));
    await delay(scale.calmMs);
  }

  const silent = await finish(submitters, scale, say);
  const records = submitters.map(recordOf);
  const violations = [...silent, ...(await untilIdle(system, submitters, connections, scale, say))];
  const store = openStore();
  try {
    const tasks = await readTasks(store);
    violations.push(...records.flatMap((record) => checkAnswers(record, tasks)), ...checkRepeats(records, tasks.values()));
    violations.push(...checkLosses(tasks.values(), agentFaults));
    const named = new Set(records.flatMap(({ events }) => events.flatMap((e) => (e.event === 'accepted' ? [e.task] : []))));
    const keys = new Set(records.flatMap((record) => (record.acceptsWorkflows ? [] : [...record.calls.keys()])));
    const unknown = [...tasks.values()].filter(({ id, answer }) => !named.has(id) && keys.has(keyOf(answer) ?? ''));
    const lost = [...tasks.values()].reduce((sum, { losses }) => sum + losses, 0);
    return { violations, stored: tasks.size, unknown: unknown.length, lost };
  } finally {
    await store.end();
  }
}

/** One call each: a fault that meets clients which are still starting meets no work. */
async function warmUp(submitters: readonly Submitter[]): Promise<void> {
  submitters.forEach((submitter) => submitter.submit(1));
  await until('every submitter has its first answer', () => submitters.every((one) => one.unsettled().length === 0), {
    deadlineMs: WARM_WITHIN_MS,
  });
}

/** A submitter may be starting, or wait for a part that was just away: then the fault meets that. */
async function untilAccepted(submitters: readonly Submitter[], before: number): Promise<void> {
  const deadlineMs = Date.now() + ACCEPTED_WITHIN_MS;
  while (acceptedBy(submitters) === before && Date.now() < deadlineMs) await delay(20);
}

function acceptedBy(submitters: readonly Submitter[]): number {
  return submitters.reduce((sum, { log }) => sum + readEvents(log).filter(({ event }) => event === 'accepted').length, 0);
}

/** Shares tasks out by weight; what does not divide goes to the first. */
function share(tasks: number, submitters: readonly Submitter[]): void {
  const total = submitters.reduce((sum, { options }) => sum + options.share, 0);
  let left = tasks;
  for (const submitter of [...submitters].reverse()) {
    const count = submitter === submitters[0] ? left : Math.min(left, Math.round((tasks * submitter.options.share) / total));
    submitter.submit(count);
    left -= count;
  }
}

/** Waits for every future, then reads in fresh processes what the clients could not get. */
async function finish(submitters: readonly Submitter[], scale: Scale, say: (line: string) => void): Promise<Violation[]> {
  const ended = await Promise.all(
    submitters.map(async (submitter) => ({ submitter, ok: await submitter.finish(scale.finishMs) })),
  );
  say(`submitters have ended; ${count(submitters)}`);
  for (const submitter of submitters) {
    const missing = submitter.unsettled();
    if (missing.length === 0 || submitter.options.reattach === undefined) continue;
    say(`${submitter.name}: ${missing.length} answers are read by a fresh process`);
    await submitter.reattach(REATTACH_MS);
  }
  return ended
    .filter(({ ok }) => !ok)
    .map(({ submitter }) => ({ rule: 'every submitter ends', what: `${submitter.name} still waited; it was killed` }));
}

/** What is left over when the system had time to become idle. */
async function untilIdle(
  { submittersDir }: ChaosSystem,
  submitters: readonly Submitter[],
  connections: ReadonlyMap<string, number>,
  scale: Scale,
  say: (line: string) => void,
): Promise<Violation[]> {
  const store = openStore();
  const temporal = await openTemporal();
  const abandonedGroups = new Set(
    submitters.filter((submitter) => submitter.options.reattach).map(({ options }) => options.taskGroupId),
  );
  const settledTasks = new Set(submitters.flatMap(settledTasksOf));
  const startedMs = Date.now();
  try {
    for (;;) {
      const left = [
        ...(await findLeftovers(store)),
        ...(await checkTemporal(temporal.client)),
        ...(await checkBroker({ store, connections, abandonedGroups, settledTasks })),
      ];
      const seconds = ((Date.now() - startedMs) / 1_000).toFixed(1);
      if (left.length === 0) say(`the system is idle ${seconds} s later`);
      if (left.length > 0 && Date.now() - startedMs > scale.idleMs) {
        await keepHistories(temporal.client, submittersDir);
        return left;
      }
      if (left.length === 0) return left;
      await delay(POLL_INTERVAL_MS);
    }
  } finally {
    await store.end();
    await temporal.close();
  }
}

function settledTasksOf({ log }: Submitter): string[] {
  const events = readEvents(log);
  const settled = new Set(events.flatMap((event) => (event.event === 'settled' ? [event.key] : [])));
  return events.flatMap((event) => (event.event === 'accepted' && settled.has(event.key) ? [event.task] : []));
}

function recordOf(submitter: Submitter): SubmitterRecord {
  return {
    name: submitter.name,
    calls: submitter.calls,
    events: readEvents(submitter.log),
    acceptsWorkflows: submitter.options.accepts === 'workflow',
    mayReattach: submitter.options.reattach !== undefined && readEvents(submitter.log).some(({ event }) => event === 'broken'),
    readsQueue: submitter.options.readsQueue ?? false,
  };
}

function progress(
  index: number,
  total: number,
  { part, fault }: Step,
  tookMs: number,
  sinceMs: number,
  submitters: readonly Submitter[],
): string {
  const number = `[${String(index + 1).padStart(String(total).length)}/${total}]`;
  const since = `${(sinceMs / 1_000).toFixed(0)} s`.padStart(6);
  return `${number} ${since}  ${`${part} ${fault}`.padEnd(22)} over after ${(tookMs / 1_000).toFixed(1)} s; ${count(submitters)}`;
}

function count(submitters: readonly Submitter[]): string {
  const events = submitters.flatMap(({ log }) => readEvents(log));
  const of = (name: string): number => events.filter(({ event }) => event === name).length;
  const submitted = submitters.reduce((sum, { calls }) => sum + calls.size, 0);
  return `${submitted} submitted, ${of('accepted')} accepted, ${of('settled')} settled`;
}
