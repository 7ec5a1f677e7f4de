/**
 * Places where a test can make the process die at once, as if killed. Active only when FUNCX_TEST_BUILD is 1, which no
 * deployment sets, and FUNCX_FAIL_POINT names one;
 * `<name>` dies at the first pass, `<name>:<n>` at the n-th.
 */

export const FAIL_POINTS = [
  'accept-bodies',
  'accept-start',
  'accept-answer',
  'claim-commit',
  'first-publish',
  'last-publish',
  'store',
  'deliver',
  'nudge',
  'before-ack',
] as const;
/** Of the start of a flow run, in `api`. */
export const FLOW_FAIL_POINTS = ['flow-run-stored', 'flow-run-started'] as const;
export type FailPoint = (typeof FAIL_POINTS)[number];

const asked = process.env.FUNCX_TEST_BUILD === '1' ? process.env.FUNCX_FAIL_POINT : undefined;
const [wanted, passes] = (asked ?? '').split(':');
let left = Number(passes ?? '1');

/** Kills the process when this point was asked for; otherwise costs nothing. */
export async function failPoint(name: FailPoint | (typeof FLOW_FAIL_POINTS)[number]): Promise<void> {
  if (wanted !== name || --left > 0) return;
  process.kill(process.pid, 'SIGKILL');
  await new Promise(() => undefined); // the signal arrives in a moment; nothing after this point may run
}
