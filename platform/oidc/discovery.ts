import { z } from 'zod';

import { ensureError, RetryableError, type TerminalError } from '../../contracts/errors';
import { isSafeAddress } from './addresses';

/** The metadata of an OpenID Connect provider (OpenID Connect Discovery 1.0). */

const address = z.string().refine(isSafeAddress, { message: 'must be an https:// address' });
const metadataSchema = z.object({
  issuer: z.string(),
  jwks_uri: address,
  authorization_endpoint: address.optional(),
  token_endpoint: address.optional(),
  userinfo_endpoint: address.optional(),
  introspection_endpoint: address.optional(),
  device_authorization_endpoint: address.optional(),
});
export type ProviderMetadata = z.infer<typeof metadataSchema>;

/** Metadata is cached for this long, because a provider rarely changes its addresses. */
const VALID_MS = 3_600_000;
/** After a failure, further requests fail immediately for this long, instead of each waiting for the provider. */
const FAILED_MS = 1_000;
export const PROVIDER_TIMEOUT_MS = 5_000;

export type Discover = () => Promise<ProviderMetadata>;

/** The returned function throws UNAVAILABLE while the provider does not answer, or if its answer is not valid metadata. */
export function createDiscovery(issuer: string, now: () => number = Date.now): Discover {
  let last: { metadata: Promise<ProviderMetadata>; untilMs: number } | undefined;
  return function discover() {
    if (last && now() < last.untilMs) return last.metadata;
    const entry = { metadata: readMetadata(issuer), untilMs: Infinity };
    last = entry;
    entry.metadata.then(
      () => (entry.untilMs = now() + VALID_MS),
      () => (entry.untilMs = now() + FAILED_MS),
    );
    return entry.metadata;
  };
}

async function readMetadata(issuer: string): Promise<ProviderMetadata> {
  const document = await askProvider(issuer, `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`);
  const parsed = metadataSchema.safeParse(document);
  if (!parsed.success)
    throw new RetryableError(`${issuer} is not an OpenID Connect provider: ${z.prettifyError(parsed.error)}`, {
      cause: parsed.error,
    });
  if (parsed.data.issuer === issuer) return parsed.data;
  throw new RetryableError(
    `the provider at ${issuer} calls itself ${parsed.data.issuer}; the operator must set FUNCX_OIDC_ISSUER to exactly that`,
  );
}

/** The JSON of a provider's answer. Throws UNAVAILABLE if the provider does not answer; `refused` creates the error for a 4xx. */
export async function askProvider(
  issuer: string,
  url: string,
  init: RequestInit = {},
  refused?: (answer: unknown) => TerminalError,
): Promise<unknown> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(PROVIDER_TIMEOUT_MS), ...init });
    text = await response.text();
  } catch (error) {
    throw providerAway(issuer, error);
  }
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch (error) {
    throw new RetryableError(`${issuer} answered ${url} with status ${response.status} and no JSON`, { cause: error });
  }
  if (response.ok) return answer;
  if (refused && response.status < 500) throw refused(answer);
  throw new RetryableError(
    `${issuer} answered ${url} with status ${response.status}; the operator finds more in the provider's log`,
  );
}

export function providerAway(issuer: string, thrown: unknown): RetryableError {
  const { message, cause } = ensureError(thrown);
  const reason = cause instanceof Error ? cause.message || message : message;
  return new RetryableError(
    `the identity provider ${issuer} does not answer (${reason}), so its tokens cannot be checked; try again, and tell the operator`,
    { cause: thrown },
  );
}
