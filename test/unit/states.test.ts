import fc from 'fast-check';

import {
  assertNever,
  END_STATES,
  isEndState,
  SUBMISSION_STATES,
  TASK_STATE_WORDS,
  TASK_STATES,
  TASK_TRANSITIONS,
  type TaskState,
} from '../../contracts/states';
import { readPage, tableRows } from '../helpers/readme';

const page = tableRows(readPage('docs/states.md'));
const rowOf = (state: string): string[] | undefined => page.find(([first]) => first === state);

describe('the table of states', () => {
  test.each(TASK_STATES)('docs/states.md says of "%s" what the code says', (state) => {
    const { globus, funcx1, shown } = TASK_STATE_WORDS[state];
    const next = TASK_TRANSITIONS[state].join(', ') || 'nothing: it is answered';
    expect(rowOf(state)).toEqual([state, globus, funcx1, shown, next]);
  });

  test.each(SUBMISSION_STATES.filter((state) => !(TASK_STATES as readonly string[]).includes(state)))(
    'docs/states.md explains the submission state "%s"',
    (state) => {
      expect(rowOf(state)?.[2]).toContain(`FuncXState = "${state}"`);
    },
  );

  test('clients are told success or failed exactly in the end states, for only these mean finished to them', () => {
    for (const state of TASK_STATES) {
      const { globus, funcx1 } = TASK_STATE_WORDS[state];
      const finished = isEndState(state);
      expect([state, ['success', 'failed'].includes(globus)]).toEqual([state, finished]);
      expect([state, ['success', 'failed'].includes(funcx1)]).toEqual([state, finished]);
    }
    expect(TASK_STATES.filter((state) => TASK_STATE_WORDS[state].globus === 'success')).toEqual(['succeeded']);
  });

  test('no walk leaves an end state, and every walk can still reach each end that it is owed', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 30 }), (choices) => {
        let state: TaskState = 'waiting';
        for (const choice of choices) {
          const next: readonly TaskState[] = TASK_TRANSITIONS[state];
          if (next.length === 0) break;
          state = next[choice % next.length]!; // in range: next is not empty
        }
        if (isEndState(state)) expect(TASK_TRANSITIONS[state]).toEqual([]);
        else expect([...reachable(state)]).toEqual(expect.arrayContaining([...END_STATES]));
      }),
    );
  });

  test('a task that waits can be cancelled and expire in every open state, without an attempt', () => {
    for (const state of TASK_STATES.filter((one) => !isEndState(one))) {
      expect(TASK_TRANSITIONS[state]).toEqual(expect.arrayContaining(['failed', 'cancelled', 'expired']));
    }
    // A late result of an attempt that was given up is an answer; running is only what was dispatched before.
    expect(TASK_TRANSITIONS.waiting).not.toContain('running');
  });

  test('a state that nobody thought of throws instead of passing', () => {
    expect(() => assertNever('asleep' as never)).toThrow('asleep');
  });
});

function reachable(from: TaskState): Set<TaskState> {
  const seen = new Set<TaskState>([from]);
  for (const state of seen) for (const next of TASK_TRANSITIONS[state]) seen.add(next);
  return seen;
}
