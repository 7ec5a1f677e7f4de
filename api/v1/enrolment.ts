import { randomUUID } from 'node:crypto';

import type { z } from 'zod';

import { TerminalError } from '../../contracts/errors';
import { enrolledSchema, enrolSchema, invitationSchema, inviteSchema, type Invitation } from '../../contracts/http/v1-identities';
import type { Identity } from '../../platform/access';
import { hashSecret, hashToken, makeSecret } from '../../platform/secrets';
import { listOwnEndpoints, saveAgent, type EndpointRow } from '../../platform/store/endpoints';
import {
  readEnrolmentCode,
  saveEnrolmentCode,
  takeEnrolmentCode,
  type EnrolmentCode,
} from '../../platform/store/enrolment-codes';
import { createGuessLimit } from '../auth/guess-limit';
import { requireEndpoint, requireGroup, unknownEndpoint } from '../checks';
import type { ApiDeps } from '../deps';
import { bearerToken } from '../middleware/authenticate';
import { idParameter, route, type Route } from '../route';
import { MIN_WINDOW, WINDOW_SPAN_S } from './agents';

/** Enrolment: the owner gets a one-time code; the agent exchanges it for an identity that may serve this endpoint only. */

const ASK_AGAIN = 'ask the owner of the endpoint for a new code (funcx endpoint invite)';

export function enrolmentRoutes(deps: ApiDeps): Route[] {
  const { identities } = deps;
  const guesses = createGuessLimit();

  return [
    route({
      method: 'post',
      path: '/v1/invitations',
      summary: 'Creates a one-time code with which an agent on another machine enrols; only this response contains its secret',
      body: inviteSchema,
      response: invitationSchema,
      status: 201,
      errors: ['ENDPOINT_NOT_FOUND', 'NOT_FOUND', 'CONFLICT'],
      handle: async ({ identity, body, res }) => {
        res.setHeader('cache-control', 'no-store');
        return invite(deps, identity, body);
      },
    }),
    route({
      method: 'post',
      path: '/v1/endpoints/:id/enrolment',
      summary: 'Exchanges a one-time code, sent as bearer token, for the identity of the agent of this endpoint',
      access: 'open',
      body: enrolSchema,
      bodySize: 'tiny', // strangers may send it
      response: enrolledSchema,
      errors: ['ENROLMENT_UNKNOWN', 'ENROLMENT_EXPIRED', 'ENROLMENT_USED', 'ENDPOINT_NOT_FOUND', 'FORBIDDEN', 'CONFLICT'],
      handle: async (request) => {
        const { req, res, body } = request;
        const endpointId = idParameter(request, 'id', 'ENDPOINT_NOT_FOUND');
        const hash = hashToken(bearerToken(req.headers.authorization));
        const address = req.socket.remoteAddress ?? '';
        guesses.check(address, endpointId);
        const code = await readEnrolmentCode(deps.db, endpointId, hash);
        if (code?.isRight !== true) {
          guesses.failed(address, endpointId);
          throw new TerminalError(
            'ENROLMENT_UNKNOWN',
            `this service does not know the code for endpoint ${endpointId}: another service issued it, or a newer code replaced it; ${ASK_AGAIN}`,
          );
        }
        const isRepeat = code.isUsed && (await isAgent(deps, code, body));
        if (!isRepeat) await enrol(deps, endpointId, hash, code, body);
        // The identity of the earlier agent was revoked, so that agent must not stay connected. The first request of a repeat
        // may have failed here.
        if (isRepeat || code.agentId !== null) await deps.brokerUsers.revokeEndpoint(endpointId);
        // For the audit log, the agent is the caller.
        const agent: Identity = { id: body.client_id, name: `agent-${body.client_id}`, isAdmin: false, groups: new Set() };
        res.locals.identity = agent;
        identities.forget();
        return { endpoint_id: endpointId, name: code.endpointName, broker_url: deps.config.AMQP_PUBLIC_URL };
      },
    }),
  ];
}

type Wanted = z.output<typeof inviteSchema>;

async function invite(deps: ApiDeps, identity: Identity, wanted: Wanted): Promise<Invitation> {
  const { db, config } = deps;
  const { id: endpointId, name } =
    wanted.endpoint_id === undefined
      ? await findOrMake(deps, identity, wanted)
      : requireUnshared(wanted, requireOurKind(await requireEndpoint(db, identity, 'manage', wanted.endpoint_id)));
  const secret = makeSecret();
  const expiresAt = await saveEnrolmentCode(db, {
    endpointId,
    hash: hashToken(secret),
    createdBy: identity.id,
    lifetimeS: wanted.expires_in_s,
  });
  deps.log.info({ endpointId, expiresAt }, 'enrolment code created');
  return {
    endpoint_id: endpointId,
    name,
    secret,
    expires_at: expiresAt.toISOString(),
    api_url: config.API_PUBLIC_URL,
    broker_url: config.AMQP_PUBLIC_URL,
    notes: reachabilityNotes(config.API_PUBLIC_URL, config.AMQP_PUBLIC_URL),
  };
}

function requireOurKind(row: EndpointRow): EndpointRow {
  if (row.kind === 'agent') return row;
  throw new TerminalError('CONFLICT', `endpoint ${row.id} is of kind ${row.kind}; invite an agent under another name`);
}

/** An existing agent may run where functions of others must not run, so an invitation can share only a new endpoint. */
function requireUnshared(wanted: Wanted, row: EndpointRow): EndpointRow {
  if (wanted.public === undefined && wanted.group === undefined) return row;
  throw new TerminalError(
    'CONFLICT',
    `endpoint ${row.id} exists, and an invitation cannot share it; leave out public and group, or invite an agent under another name`,
  );
}

/** The newest endpoint of this name, or a new one: tasks wait before it has an agent, and deleting it ends the code. */
async function findOrMake(deps: ApiDeps, identity: Identity, wanted: Wanted): Promise<{ id: string; name: string }> {
  const { name = '', group } = wanted;
  const own = (await listOwnEndpoints(deps.db, identity.id)).filter((row) => row.name === name);
  const known = own.filter(({ kind }) => kind === 'agent').at(-1) ?? own.at(-1);
  if (known !== undefined) return requireUnshared(wanted, requireOurKind(known));
  if (group !== undefined) await requireGroup(deps.db, identity, group);
  await deps.quotas.requireRoomForEndpoint(identity.id);
  const id = randomUUID();
  const isSaved = await saveAgent(deps.db, {
    id,
    ownerId: identity.id,
    name,
    displayName: null,
    kind: 'agent',
    isPublic: wanted.public ?? false,
    groupId: group ?? null,
    allowedFunctions: null,
    metadata: {},
    incarnation: null,
    workers: 1,
    heartbeatPeriodS: deps.config.FUNCX_HEARTBEAT_PERIOD_S,
    windowFloor: MIN_WINDOW,
    windowSpanS: WINDOW_SPAN_S,
  });
  if (!isSaved) throw unknownEndpoint(id);
  await deps.queues.declare(id);
  return { id, name };
}

/** True when this agent used the code before: it lost the response and repeats the request. */
async function isAgent({ identities }: ApiDeps, code: EnrolmentCode, agent: z.output<typeof enrolSchema>): Promise<boolean> {
  if (code.agentId !== agent.client_id) return false;
  return (await identities.authenticateClient(agent.client_id, agent.client_secret)) !== undefined;
}

async function enrol(
  deps: ApiDeps,
  endpointId: string,
  hash: Buffer,
  code: EnrolmentCode,
  agent: z.output<typeof enrolSchema>,
): Promise<void> {
  requireUsable(endpointId, code);
  if ((await deps.identities.find(agent.client_id)) !== undefined) {
    throw new TerminalError('CONFLICT', `an identity with the ID ${agent.client_id} already exists; enrol with another ID`);
  }
  const secretHash = await hashSecret(agent.client_secret);
  if (!(await takeEnrolmentCode(deps.db, { endpointId, hash, agentId: agent.client_id, secretHash }))) {
    // Another agent was faster.
    requireUsable(endpointId, (await readEnrolmentCode(deps.db, endpointId, hash)) ?? { ...code, isUsed: true });
    throw new TerminalError('ENROLMENT_UNKNOWN', `a newer code replaced this one; ${ASK_AGAIN}`);
  }
  deps.log.info({ endpointId, agentId: agent.client_id, earlierAgentId: code.agentId }, 'agent enrolled');
}

function requireUsable(endpointId: string, code: EnrolmentCode): void {
  if (code.isRevoked) {
    throw new TerminalError(
      'FORBIDDEN',
      `the identity that owns endpoint ${endpointId}, or created this code, was revoked; ask an administrator for an endpoint of another owner`,
    );
  }
  if (code.isEndpointDeleted) {
    throw new TerminalError('ENDPOINT_NOT_FOUND', `endpoint ${endpointId} was deleted after the code was created; ${ASK_AGAIN}`);
  }
  if (code.isUsed) {
    throw new TerminalError('ENROLMENT_USED', `an agent enrolled with this code before, and a code works once; ${ASK_AGAIN}`);
  }
  if (code.isExpired) throw new TerminalError('ENROLMENT_EXPIRED', `the code has expired; ${ASK_AGAIN}`);
}

/** What must change before an agent on another machine can reach the service. */
export function reachabilityNotes(apiUrl: string, brokerUrl: string): string[] {
  const [isApiLocal, isBrokerLocal] = [isLoopback(apiUrl), isLoopback(brokerUrl)];
  const fix = 'see "Reaching the service" in docs/endpoint-elsewhere.md';
  if (isApiLocal && isBrokerLocal) {
    return [
      `The service is known as ${apiUrl} and its broker as ${brokerUrl}. Both addresses point to the machine where the agent runs: the code works on this machine, or through a tunnel; ${fix}.`,
    ];
  }
  const broker = `Agents get the broker address ${brokerUrl}, which no other machine can reach. Set AMQP_PUBLIC_URL; ${fix}.`;
  const api = `The service is known as ${apiUrl}, which no other machine can reach. Set API_PUBLIC_URL; ${fix}.`;
  const clear = `${apiUrl} is not encrypted: the secrets of the agent travel in clear text. Put TLS in front of the API.`;
  return [
    ...(isBrokerLocal ? [broker] : []),
    ...(isApiLocal ? [api] : []),
    ...(!isApiLocal && apiUrl.startsWith('http:') ? [clear] : []),
  ];
}

const isLoopback = (url: string): boolean =>
  URL.canParse(url) && /^(localhost|127(\.\d+){3}|\[::1\])$/.test(new URL(url).hostname);
