import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { hostname } from 'node:os';

import { ApiError, ConnectionError, decodeEnrolmentCode, ServiceHttp, type EnrolmentCode } from '../../client';
import { TerminalError } from '../../contracts/errors';
import { enrolledSchema } from '../../contracts/http/v1-identities';

import { dirOf, readDraft, readIdentity, writeDraft, writeIdentity } from './folders';

/** Exchanges a one-time code for the identity of an agent, and stores the identity. */

const TIMEOUT_MS = 30_000;
const RETRY_MS = 15_000;
const LOOPBACK = /^https?:\/\/(localhost|127(\.\d+){3}|\[::1\])(:|\/|$)/;
const CERTIFICATE_CODES = /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|ALTNAME/;

/** Throws errors with a documented code and what to do. Enrolling again with the same code on the same machine is safe. */
export async function enrol(text: string, options: { isHttpAllowed: boolean }): Promise<{ name: string; id: string }> {
  const code = decodeEnrolmentCode(text);
  requireEncryption(code.apiUrl, options.isHttpAllowed);
  const { name, endpointId } = code;
  requireFreeName(name, endpointId);
  const codeHash = createHash('sha256').update(code.secret).digest('hex');
  const known = readDraft(name);
  const agent =
    known?.code_sha256 === codeHash ? known : { client_id: randomUUID(), client_secret: randomBytes(32).toString('base64url') };
  writeDraft(name, { ...agent, code_sha256: codeHash });
  const { broker_url: brokerUrl } = await redeem(code, agent);
  const { client_id, client_secret } = agent;
  writeIdentity(name, { api_url: code.apiUrl, endpoint_id: endpointId, name, client_id, client_secret }, code.authority);
  if (LOOPBACK.test(brokerUrl.replace(/^amqp/, 'http')) && !LOOPBACK.test(code.apiUrl)) {
    throw new TerminalError(
      'UNAVAILABLE',
      `The agent of endpoint ${name} is enrolled, but the service at ${code.apiUrl} gives agents the broker address ${brokerUrl}, which this machine (${hostname()}) takes for itself. ` +
        `Ask the operator of the service to set AMQP_PUBLIC_URL. Then run: funcx-endpoint start ${name}`,
    );
  }
  return { name, id: endpointId };
}

async function redeem(
  { apiUrl, endpointId, secret, authority }: EnrolmentCode,
  { client_id: clientId, client_secret: clientSecret }: { client_id: string; client_secret: string },
): Promise<{ broker_url: string }> {
  const http = new ServiceHttp({
    apiUrl,
    clientId,
    clientSecret,
    ca: authority,
    integers: 'refuse',
    retryForMs: RETRY_MS,
    timeoutMs: TIMEOUT_MS,
  });
  try {
    const answer = await http.request({
      method: 'POST',
      path: `/v1/endpoints/${endpointId}/enrolment`,
      body: { client_id: clientId, client_secret: clientSecret },
      token: secret,
      // The agent chose the ID and the secret, so the service recognizes a repeated request.
      mayRepeat: true,
    });
    return enrolledSchema.parse(answer);
  } catch (error) {
    throw explained(error, apiUrl);
  } finally {
    http.close();
  }
}

function explained(error: unknown, apiUrl: string): unknown {
  if (error instanceof ApiError && error.code === 'NOT_FOUND') {
    const reason = `${apiUrl} does not support enrolment codes: it is a different service, or an earlier release of this service`;
    return new TerminalError('NOT_FOUND', `${reason}. Ask the owner of the endpoint for a new code.`, { cause: error });
  }
  const cause = error instanceof ConnectionError ? (error.cause as { code?: unknown } | undefined) : undefined;
  if (typeof cause?.code !== 'string' || !CERTIFICATE_CODES.test(cause.code)) return error;
  return new TerminalError(
    'UNAUTHENTICATED',
    `${apiUrl} presented a certificate (${cause.code}) that does not belong to the service of this code. A different service answers at this address, or somebody intercepts the connection; nothing was sent. Ask the owner of the endpoint for a new code.`,
    { cause: error },
  );
}

function requireEncryption(apiUrl: string, isHttpAllowed: boolean): void {
  if (apiUrl.startsWith('https:') || LOOPBACK.test(apiUrl) || isHttpAllowed) return;
  throw new TerminalError(
    'INVALID_REQUEST',
    `${apiUrl} is not encrypted, so the secrets of the agent could be read on the network. Ask for a code with an https:// address, or add --insecure-http if you trust the network.`,
  );
}

function requireFreeName(name: string, endpointId: string): void {
  const known = readIdentity(name);
  if (known === undefined || known.endpoint_id === endpointId) return;
  throw new TerminalError(
    'CONFLICT',
    `${dirOf(name)} belongs to a different endpoint named ${name} of the service at ${known.api_url}. Set FUNCX_ENDPOINT_HOME to another folder, or remove this one.`,
  );
}
