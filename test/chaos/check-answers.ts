import { failsOnPurpose, findAnswer, keyOf, type Call } from './calls';
import type { StoredTask } from './check-store';
import type { SubmitterEvent } from './submitter-log';

/** What the submitters' own logs say, compared with what is stored. */

export interface Violation {
  rule: string;
  what: string;
}

export interface SubmitterRecord {
  name: string;
  calls: ReadonlyMap<string, Call>;
  events: readonly SubmitterEvent[];
  /** A pipeline: an accepted call names a workflow. */
  acceptsWorkflows: boolean;
  /** Its protocol document says that the client does not survive every fault; a fresh process reads what is missing. */
  mayReattach: boolean;
  /** The client reads its answers from one queue, in the order of the queue. */
  readsQueue: boolean;
}

export const RULES = {
  accepted: 'every call is accepted, under one ID',
  stored: 'every accepted task has one stored answer, and it is right',
  settled: 'every future settles once, with the stored answer',
  reattached: 'what a client missed is read by a fresh process',
  overtaken: 'an answer that is marked as delivered is in the queue of its task group',
  once: 'a call is stored once, or once more for each time that its submitter was refused',
} as const;

export function checkAnswers(record: SubmitterRecord, stored: ReadonlyMap<string, StoredTask>): Violation[] {
  const byKey = new Map<string, SubmitterEvent[]>();
  const reattached = new Map<string, string>();
  for (const event of record.events) {
    if (event.event === 'reattached') reattached.set(event.task, textOf(event));
    else if (event.event !== 'broken') byKey.set(event.key, [...(byKey.get(event.key) ?? []), event]);
  }
  return [
    ...[...record.calls.values()].flatMap((call) => checkCall(record, call, byKey.get(call.key) ?? [], stored, reattached)),
    ...(record.readsQueue ? checkOrder(record.events, stored) : []),
  ];
}

/**
 * Finds answers that never arrived in the queue: a client settled a future with an answer that was stored after they were marked as
 * delivered, and so was behind them. That a client breaks later does not excuse them.
 */
function checkOrder(events: readonly SubmitterEvent[], stored: ReadonlyMap<string, StoredTask>): Violation[] {
  return processesOf(events).flatMap((own) => {
    const settled = new Set(own.flatMap((event) => (event.event === 'settled' ? [event.key] : [])));
    const accepted = own.flatMap((event) => (event.event === 'accepted' ? [event] : []));
    const lastMs = Math.max(...accepted.map(({ key, task }) => (settled.has(key) ? (stored.get(task)?.answeredMs ?? 0) : 0)));
    return accepted.flatMap(({ key, task }) => {
      const deliveredMs = stored.get(task)?.deliveredMs ?? Infinity;
      if (settled.has(key) || deliveredMs >= lastMs) return [];
      const earlier = `marked as delivered ${lastMs - deliveredMs} ms before the last answer that the client read was stored`;
      return [{ rule: RULES.overtaken, what: `${key}, ${task}: ${earlier}` }];
    });
  });
}

/** The events of each process of the client. */
function processesOf(events: readonly SubmitterEvent[]): SubmitterEvent[][] {
  const processes: SubmitterEvent[][] = [[]];
  for (const event of events) {
    if (event.event === 'broken') processes.push([]);
    else processes.at(-1)?.push(event);
  }
  return processes;
}

function checkCall(
  record: SubmitterRecord,
  call: Call,
  events: readonly SubmitterEvent[],
  stored: ReadonlyMap<string, StoredTask>,
  reattached: ReadonlyMap<string, string>,
): Violation[] {
  const ids = new Set(events.flatMap((event) => (event.event === 'accepted' ? [event.task] : [])));
  const [task] = ids;
  if (task === undefined || ids.size > 1) {
    return [{ rule: RULES.accepted, what: `${call.key} has the IDs: ${[...ids].join(', ') || 'none'}` }];
  }
  const about = `${call.key} (${call.kind}), ${task}`;
  const violations: Violation[] = [];
  const answer = record.acceptsWorkflows ? undefined : answerOf(call, stored.get(task));
  if (answer !== undefined && 'wrong' in answer) violations.push({ rule: RULES.stored, what: `${about}: ${answer.wrong}` });
  const right = answer !== undefined && 'right' in answer ? answer.right : undefined;

  const settlings = events.flatMap((event) => (event.event === 'settled' ? [event] : []));
  const [first] = settlings;
  if (first === undefined && record.mayReattach) {
    const text = reattached.get(task);
    const found = text === undefined ? undefined : findAnswer(call, text);
    if (found === undefined || found !== right) {
      violations.push({ rule: RULES.reattached, what: `${about}: ${text === undefined ? 'not read' : text.slice(0, 300)}` });
    }
  } else if (first === undefined || settlings.length > 1) {
    violations.push({ rule: RULES.settled, what: `${about}: settled ${settlings.length} times` });
  } else {
    const found = findAnswer(call, textOf(first));
    const hasRightForm = 'error' in first === failsOnPurpose(call.kind);
    const isStored = record.acceptsWorkflows || found === right;
    if (found === undefined || !hasRightForm || !isStored) {
      const isStale = found !== undefined && !isStored ? `not the stored answer ${right ?? ''}: ` : '';
      violations.push({ rule: RULES.settled, what: `${about}: ${isStale}${textOf(first).slice(0, 300)}` });
    }
  }
  return violations;
}

const textOf = (event: { value: string } | { error: string }): string => ('value' in event ? event.value : event.error);

function answerOf(call: Call, task: StoredTask | undefined): { right: string } | { wrong: string } {
  if (task === undefined) return { wrong: 'is not in the store' };
  if (task.answer === undefined) return { wrong: `has no answer, its state is ${task.state}` };
  if ((task.state === 'failed') !== failsOnPurpose(call.kind)) return { wrong: `${task.state}: ${task.answer.slice(0, 300)}` };
  const found = findAnswer(call, task.answer);
  return found === undefined ? { wrong: `another value: ${task.answer.slice(0, 300)}` } : { right: found };
}

/** Finds calls that were stored more often than their submitter can know of: a repeated request that ran twice. */
export function checkRepeats(records: readonly SubmitterRecord[], stored: Iterable<StoredTask>): Violation[] {
  const times = new Map<string, number>();
  for (const { answer } of stored) {
    const key = keyOf(answer);
    if (key !== undefined) times.set(key, (times.get(key) ?? 0) + 1);
  }
  return records.flatMap(({ calls, events }) => {
    const refused = new Map<string, number>();
    for (const event of events) {
      if (event.event === 'refused') refused.set(event.key, (refused.get(event.key) ?? 0) + 1);
    }
    return [...calls.keys()].flatMap((key) => {
      const [found, allowed] = [times.get(key) ?? 0, 1 + (refused.get(key) ?? 0)];
      return found <= allowed ? [] : [{ rule: RULES.once, what: `${key} is stored ${found} times` }];
    });
  });
}
