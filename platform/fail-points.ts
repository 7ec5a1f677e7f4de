/**
 * Points at which a test can kill the process. Active only when FUNCX_TEST_BUILD is 1, which no deployment sets, and
 * FUNCX_FAIL_POINT names a point: `<name>` kills at the first pass, `<name>:<n>` at the n-th.
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
/** Fail points in the start of a flow run, in `api`. */
export const FLOW_FAIL_POINTS = ['flow-run-stored', 'flow-run-started'] as const;
export type FailPoint = (typeof FAIL_POINTS)[number];

const selected = process.env.FUNCX_TEST_BUILD === '1' ? process.env.FUNCX_FAIL_POINT : undefined;
const [selectedName, passes] = (selected ?? '').split(':');
let passesLeft = Number(passes ?? '1');

export async function failPoint(name: FailPoint | (typeof FLOW_FAIL_POINTS)[number]): Promise<void> {
  if (selectedName !== name || --passesLeft > 0) return;
  process.kill(process.pid, 'SIGKILL');
  await new Promise(() => undefined); // nothing may run until the signal arrives
}
