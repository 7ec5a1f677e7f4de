import { chaosInJavascript, type Call } from '../chaos/calls';
import { checkAnswers, checkRepeats, RULES, type SubmitterRecord } from '../chaos/check-answers';
import { checkLosses, type StoredTask } from '../chaos/check-store';
import type { SubmitterEvent } from '../chaos/submitter-log';

/** The checker of chaos reports what it is there for. */

const call: Call = { key: 'us-0', kind: 'js' };
const value = chaosInJavascript(call.key, call.kind);
const another = chaosInJavascript(call.key, call.kind);

const accepted: SubmitterEvent = { event: 'accepted', key: 'us-0', task: 't' };
const settled: SubmitterEvent = { event: 'settled', key: 'us-0', value };
const task: StoredTask = {
  id: 't',
  state: 'succeeded',
  answer: value,
  attempts: 1,
  losses: 0,
  createdMs: 10_000,
  answeredMs: 20_000,
  deliveredMs: 20_100,
};

function rulesBroken(events: SubmitterEvent[], stored: StoredTask | undefined, more: Partial<SubmitterRecord> = {}): string[] {
  const calls = new Map([[call.key, call]]);
  const record: SubmitterRecord = {
    name: 'us',
    calls,
    events,
    acceptsWorkflows: false,
    mayReattach: false,
    readsQueue: false,
    ...more,
  };
  return checkAnswers(record, new Map(stored === undefined ? [] : [['t', stored]])).map(({ rule }) => rule);
}

test('an accepted call with one stored answer that its future settled with breaks no rule of chaos', () => {
  expect(rulesBroken([accepted, settled], task)).toEqual([]);
});

test('a lost, a wrong and a doubled answer are reported by the checker of chaos', () => {
  expect(rulesBroken([settled], task)).toEqual([RULES.accepted]);
  expect(rulesBroken([accepted, settled], undefined)).toContain(RULES.stored);
  expect(rulesBroken([accepted, settled], { ...task, answer: undefined })).toContain(RULES.stored);
  expect(rulesBroken([accepted, settled], { ...task, state: 'failed', answer: 'AgentLost' })).toContain(RULES.stored);
  expect(rulesBroken([accepted, settled], { ...task, answer: value.replace('us-0', 'us-1') })).toContain(RULES.stored);
  expect(rulesBroken([accepted], task)).toEqual([RULES.settled]);
  expect(rulesBroken([accepted, settled, settled], task)).toEqual([RULES.settled]);
  expect(rulesBroken([accepted, { event: 'settled', key: 'us-0', error: value }], task)).toEqual([RULES.settled]);
});

test('a future that settled with the answer of an execution that is not stored is reported by the checker of chaos', () => {
  expect(rulesBroken([accepted, settled], { ...task, answer: another })).toEqual([RULES.settled]);
});

test('the checker of chaos lets a fresh process read what a client missed, and nothing else', () => {
  const read: SubmitterEvent = { event: 'reattached', task: 't', value };
  expect(rulesBroken([accepted, read], task, { mayReattach: true })).toEqual([]);
  expect(rulesBroken([accepted, read], task)).toEqual([RULES.settled]);
  expect(rulesBroken([accepted], task, { mayReattach: true })).toEqual([RULES.reattached]);
  expect(rulesBroken([accepted, { ...read, value: another }], task, { mayReattach: true })).toEqual([RULES.reattached]);
});

describe('an answer that a client never read, although it is marked as delivered', () => {
  const another: Call = { key: 'us-1', kind: 'js' };
  const anothers = chaosInJavascript(another.key, another.kind);
  const lost: SubmitterEvent[] = [accepted, { event: 'reattached', task: 't', value }];
  const both: SubmitterEvent[] = [
    { event: 'accepted', key: 'us-1', task: 'u' },
    { event: 'settled', key: 'us-1', value: anothers },
  ];
  const broken: SubmitterEvent = { event: 'broken', reason: 'its connections were lost' };
  function rulesBrokenBeside(events: SubmitterEvent[], answeredMs: number): string[] {
    const calls = new Map([call, another].map((one) => [one.key, one]));
    const record = { name: 'us', calls, events, acceptsWorkflows: false, mayReattach: true, readsQueue: true };
    const other = { ...task, id: 'u', answer: anothers, answeredMs, deliveredMs: answeredMs + 100 };
    return checkAnswers(record, new Map([task, other].map((one) => [one.id, one]))).map(({ rule }) => rule);
  }

  test('is reported by the checker of chaos if the same process read a later answer, also if it broke after that', () => {
    expect(rulesBrokenBeside([...lost, ...both, broken], 30_000)).toEqual([RULES.overtaken]);
  });

  test('is no fault if it may be behind what the process read, or another process read the later answer', () => {
    expect(rulesBrokenBeside([...lost, ...both, broken], 20_050)).toEqual([]);
    expect(rulesBrokenBeside([...lost, broken, ...both], 30_000)).toEqual([]);
  });
});

test('a call that is stored more often than its submitter was refused is reported by the checker of chaos', () => {
  const calls = new Map([[call.key, call]]);
  const record = (events: SubmitterEvent[]): SubmitterRecord[] => [
    { name: 'us', calls, events, acceptsWorkflows: false, mayReattach: false, readsQueue: false },
  ];
  const twice = [task, { ...task, id: 'u', answer: another }];
  expect(checkRepeats(record([accepted]), twice)).toHaveLength(1);
  const pickled = twice.map((one) => ({ ...one, answer: `\x80\x04\x95\x38\x8c4${one.answer ?? ''}\x94.` }));
  expect(checkRepeats(record([accepted]), pickled)).toHaveLength(1);
  expect(checkRepeats(record([{ event: 'refused', key: 'us-0', error: 'gone' }, accepted]), twice)).toEqual([]);
});

test('an attempt that is lost while nothing happened to its agent is reported by the checker of chaos', () => {
  const lost = { ...task, losses: 1 };
  expect(checkLosses([lost], [])).toHaveLength(1);
  expect(checkLosses([lost], [{ fromMs: 25_000, toMs: 26_000 }])).toHaveLength(1);
  expect(checkLosses([lost], [{ fromMs: 12_000, toMs: 13_000 }])).toEqual([]);
});
