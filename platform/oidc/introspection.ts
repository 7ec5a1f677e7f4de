import { z } from 'zod';

import type { Claims } from './claims';
import { askProvider, type Discover } from './discovery';
import { unauthenticated } from './tokens';

/** Validates an access token that is not a JWT by introspection at the provider (RFC 7662). */

const answerSchema = z.looseObject({
  active: z.boolean(),
  exp: z.number().optional(),
  aud: z.union([z.string(), z.array(z.string())]).optional(),
});
/** The assumed lifetime of a token if the provider does not say when it expires. */
const UNKNOWN_LIFETIME_S = 60;

export interface ClientOfProvider {
  issuer: string;
  clientId: string;
  clientSecret: string | undefined;
}

/** How a client authenticates: with its secret in `Authorization`, or with only its ID if it has no secret. */
export function clientProof({ clientId, clientSecret }: ClientOfProvider): {
  headers: Record<string, string>;
  form: Record<string, string>;
} {
  if (clientSecret === undefined) return { headers: {}, form: { client_id: clientId } };
  const pair = `${encodeURIComponent(clientId)}:${encodeURIComponent(clientSecret)}`; // RFC 6749, section 2.3.1
  return { headers: { authorization: `Basic ${Buffer.from(pair).toString('base64')}` }, form: {} };
}

export async function introspect(
  client: ClientOfProvider,
  discover: Discover,
  token: string,
  audience: readonly string[],
): Promise<Claims & { exp: number }> {
  const { issuer } = client;
  const { introspection_endpoint: url } = await discover();
  if (url === undefined) throw unauthenticated(`the access token is unknown, and ${issuer} has no introspection endpoint`);
  const proof = clientProof(client);
  const answer = answerSchema.parse(
    await askProvider(issuer, url, {
      method: 'POST',
      headers: proof.headers,
      body: new URLSearchParams({ ...proof.form, token, token_type_hint: 'access_token' }),
    }),
  );
  if (!answer.active) throw unauthenticated(`the access token is unknown, expired or revoked, as ${issuer} says`);
  const audiences = typeof answer.aud === 'string' ? [answer.aud] : (answer.aud ?? []);
  if (!audience.some((one) => audiences.includes(one)))
    throw unauthenticated(`the access token of ${issuer} is for another service; ask for the audience ${audience.join(' or ')}`);
  return { ...answer, exp: answer.exp ?? Math.floor(Date.now() / 1_000) + UNKNOWN_LIFETIME_S };
}
