import { configFor } from '../helpers/api-harness';

test('a body that may not fit into a message is a mistake in the configuration', () => {
  const message = { FUNCX_MAX_MESSAGE_BYTES: '4000000' };
  expect(() => configFor({ ...message, FUNCX_INLINE_BODY_BYTES: '1000001' })).toThrow(/FUNCX_INLINE_BODY_BYTES.*quarter/);
  expect(configFor({ ...message, FUNCX_INLINE_BODY_BYTES: '1000000' }).FUNCX_INLINE_BODY_BYTES).toBe(1_000_000);
});
