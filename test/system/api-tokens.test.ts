import { once } from 'node:events';
import { readFileSync } from 'node:fs';

import { connect } from 'amqplib';

import type { CreatedToken, TokenDocument } from '../../contracts/http/tokens';
import { funcx, state } from '../helpers/system';

/** API tokens from the command line, and what ends with them at the broker. */

const json = <T>(...args: string[]): T => {
  const { status, stdout, stderr } = funcx([...args, '--json']);
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as T;
};
const withToken = (token: string, ...args: string[]) => funcx(args, { FUNCX_API_URL: state().api_url, FUNCX_TOKEN: token });

test('a token is made, does what its scopes allow, is listed and ends when it is revoked', async () => {
  const made = json<CreatedToken>('token', 'create', 'nightly', '--scope', 'read', '--expires', '1h');
  expect(withToken(made.token, 'function', 'list', '--json').status).toBe(0);
  const refused = withToken(made.token, 'group', 'create', 'of-a-token');
  expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('needs "admin"') });

  const { tokens } = json<{ tokens: TokenDocument[] }>('token', 'list');
  expect(tokens).toContainEqual(expect.objectContaining({ name: 'nightly', scopes: ['read'], token_id: made.token_id }));
  expect(funcx(['token', 'list']).stdout).not.toContain(made.token);

  // The broker credentials that its bearer got end with it, open connections too.
  const headers = { authorization: `Bearer ${made.token}` };
  const answer = await fetch(`${state().api_url}/v2/get_amqp_result_connection_url`, { headers });
  const { connection_url: url } = (await answer.json()) as { connection_url: string };
  const ca = state().ca_file;
  const broker = await connect(url, ca === null ? {} : { ca: [readFileSync(ca)] });
  broker.on('error', () => undefined);
  const closed = once(broker, 'close');
  const started = Date.now();
  expect(json<object>('token', 'revoke', 'nightly')).toMatchObject({ token_id: made.token_id, revoked: true });
  await closed;
  expect(Date.now() - started).toBeLessThan(10_000);
  expect(withToken(made.token, 'function', 'list')).toMatchObject({ status: 1, stderr: expect.stringContaining('access token') });
});
