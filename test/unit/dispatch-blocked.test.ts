import type { ActivityDeps } from '../../activities';
import { dispatchClaim } from '../../activities/publish-tasks';
import { PublishError } from '../../broker';

/** A dispatch while the message broker accepts no messages. */

const blocked = new PublishError('blocked', 'the message broker accepts no messages');
const deps = {
  publisher: { isReady: false, requireFlowing: () => Promise.reject(blocked) },
} as unknown as ActivityDeps;

test('a first dispatch claims nothing while the broker is blocked', async () => {
  expect(await dispatchClaim(deps, 'queue', 'claim', { isRepeated: false })).toEqual([]);
});

test('a repeated dispatch fails while the broker is blocked, because nobody else publishes what its claim took', async () => {
  await expect(dispatchClaim(deps, 'queue', 'claim', { isRepeated: true })).rejects.toBe(blocked);
});

test('a first dispatch fails while the broker is blocked where the accept may have claimed its tasks', async () => {
  await expect(dispatchClaim(deps, 'queue', 'claim', { isRepeated: false, mayBeClaimed: true })).rejects.toBe(blocked);
});
