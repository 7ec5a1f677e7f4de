import type { SubmissionInput, SubmissionProgress } from '../../contracts/submission';
import { describeSubmission } from '../../workflows/details';
import { describeEndpoint, type ShownEndpoint } from '../../workflows/endpoint-details';
import { showTime } from '../../workflows/shown-time';

/** What a person who watches the Temporal UI reads: what waits, how much, whose, since when, why, and what to do. */

const NOW = Date.UTC(2026, 11, 10, 14, 30);
const SINCE = Date.UTC(2026, 11, 10, 11, 2);
const ID = '01a20d0e-44fc-8a94-89f5-f7be3a500000';
const input: SubmissionInput = {
  version: 1,
  submissionId: ID,
  taskQueueId: 'q',
  endpointId: 'e',
  endpointName: 'laptop',
  ownerId: 'o',
  ownerName: 'ann',
  functionName: 'add',
  taskGroupId: 'g',
  total: 6,
  deadlineMs: Date.UTC(2026, 11, 24, 14, 0),
};
const progress = (extra: Partial<SubmissionProgress>): SubmissionProgress => ({
  open: 6,
  counts: { waiting: 6 },
  endpointOnline: true,
  endpointSinceMs: SINCE,
  failures: [],
  ...extra,
});
const queue = {
  inHand: 7,
  window: 7,
  workers: 2,
  waiting: 310,
  owners: 3,
  ownerNames: ['ann (300)', 'bob (9)'],
  oldestMs: SINCE,
};

describe('the details of a submission', () => {
  test('whose endpoint is offline say since when, until when, and how to bring it back', () => {
    const text = describeSubmission(input, progress({ endpointOnline: false }), NOW);
    expect(text).toContain('**add** on **laptop** for **ann**');
    expect(text).toContain('6 tasks: **6** waiting');
    expect(text).toContain('**6 tasks wait because laptop is offline** since 10 Dec 11:02 UTC.');
    expect(text).toContain('`funcx endpoint start laptop`');
    expect(text).toContain('The deadline is 24 Dec 14:00 UTC');
    expect(text).toContain(`*Request Cancellation* on this page, or \`funcx cancel submission ${ID}\``);
  });

  test('that waits for a place say how full the endpoint is and who else waits', () => {
    const text = describeSubmission(input, progress({ queue }), NOW);
    expect(text).toContain(
      '**6 tasks wait for a free place** on laptop: its agent has 7 of at most 7 tasks in hand and runs 2 at the same time.',
    );
    expect(text).toContain('In all, 310 tasks wait there, of ann (300), bob (9) and others; owners take turns.');
    expect(text).not.toContain('offline');
  });

  test('with a retry say when, which attempt, and after which failure', () => {
    const nextAttempt = { number: 2, error: 'ValueError: the sample is empty' };
    const text = describeSubmission(
      input,
      progress({ counts: { delayed: 1, succeeded: 5 }, open: 1, nextDueMs: NOW + 65_000, nextAttempt }),
      NOW,
    );
    expect(text).toContain(
      '**1 task will be retried at 10 Dec 14:31:05 UTC** (attempt 2) after ValueError: the sample is empty.',
    );
  });

  test('with failures name them and how to list and repeat them; what is done offers nothing to stop', () => {
    const failures = [{ taskId: 't', code: 'RemoteExecutionError', text: 'KeyError: 1' }];
    const text = describeSubmission(input, progress({ open: 0, counts: { succeeded: 5, failed: 1 }, failures }), NOW);
    expect(text).toContain('6 tasks: **5** succeeded, **1** failed');
    expect(text).toContain('- `t` RemoteExecutionError: KeyError: 1');
    expect(text).toContain(`\`funcx task list --submission ${ID} --state failed\`. To run them again: \`funcx retry ${ID}\``);
    expect(text).not.toMatch(/cancel|deadline/i);
  });

  test('of tasks at an agent say that they run as its workers become free', () => {
    const sent = progress({ counts: { dispatched: 3, running: 1 }, open: 4, endpointOnline: true });
    expect(describeSubmission(input, sent, NOW)).toContain('3 tasks are at the agent of laptop, which runs them as its workers');
    const one = progress({ counts: { dispatched: 1 }, open: 1, endpointOnline: true });
    expect(describeSubmission(input, one, NOW)).toContain(
      '1 task is at the agent of laptop, which runs it when a worker is free.',
    );
  });

  test('of tasks at an agent that left say what becomes of them; of a deleted endpoint that they fail', () => {
    const away = progress({ counts: { running: 2 }, open: 2, endpointOnline: false, lost: 1 });
    expect(describeSubmission(input, away, NOW)).toContain('laptop is offline since 10 Dec 11:02 UTC and has 2 tasks in hand.');
    expect(describeSubmission(input, away, NOW)).toContain('1 attempt was lost with the agent that had it');
    const gone = progress({ endpointOnline: false, endpointDeleted: true });
    expect(describeSubmission(input, gone, NOW)).toContain('The endpoint was deleted');
    expect(describeSubmission(input, gone, NOW)).not.toContain('offline');
  });

  test('say when they were updated, because a terminated workflow keeps them', () => {
    expect(describeSubmission(input, progress({}), NOW)).toMatch(
      new RegExp(`Last updated 10 Dec 14:30:00 UTC. The state now: \`funcx submission show ${ID}\`.$`),
    );
  });

  test('hold no cell or mark-up of a name', () => {
    const odd = { ...input, functionName: '<b>|x|`', endpointName: 'a_b' };
    expect(describeSubmission(odd, progress({}), NOW)).toContain('**\\<b\\>\\|x\\|\\`** on **a\\_b**');
  });
});

describe('the details of an endpoint', () => {
  const shown = (extra: Partial<ShownEndpoint>): string =>
    describeEndpoint(
      {
        endpointName: 'laptop',
        isOnline: false,
        sinceMs: SINCE,
        isPumping: false,
        isGone: false,
        queue: undefined,
        dispatched: 0,
        ...extra,
      },
      NOW,
    );

  test('that is offline say what waits, whose, since when, and how to bring it back', () => {
    const text = shown({ queue: { ...queue, waiting: 6, owners: 2, ownerNames: ['ann (5)', 'bob (1)'] } });
    expect(text).toContain('**laptop** has been **offline** since 10 Dec 11:02 UTC');
    expect(text).toContain('**6 tasks wait** for its agent, the oldest since 10 Dec 11:02 UTC. Owners: ann (5), bob (1).');
    expect(text).toContain('`funcx endpoint start laptop`');
    expect(text).toContain('`funcx submission list --endpoint laptop --open`');
  });

  test('that is online say whether tasks wait for a place', () => {
    expect(shown({ isOnline: true })).toContain('Nothing waits here.');
    expect(shown({ isOnline: true, isPumping: true, queue })).toContain(
      '7 of at most 7 tasks in hand and runs 2 at the same time',
    );
  });

  test('that was deleted say so and nothing else', () => {
    expect(shown({ isGone: true })).toBe('**laptop** was deleted. Its open tasks failed with EndpointDeleted.');
  });
});

test('a time has seconds when it is near and a year when it is far', () => {
  expect(showTime(NOW + 1_000, NOW)).toBe('10 Dec 14:30:01 UTC');
  expect(showTime(NOW + 86_400_000, NOW)).toBe('11 Dec 14:30 UTC');
  expect(showTime(Date.UTC(2027, 11, 1), NOW)).toBe('1 Dec 2027 00:00 UTC');
});
