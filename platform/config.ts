import { readFileSync } from 'node:fs';

import { z } from 'zod';

import { CALL_NEXUS, DEFAULT_CALLS_QUEUE } from '../contracts/calls';
import { DEFAULT_FLOWS_QUEUE } from '../contracts/flows';
import { DEFAULT_TASK_QUEUE } from '../contracts/names';
import { isAllowListEntry, isNetwork } from './networks';
import { isSafeAddress } from './oidc/addresses';

/** The configuration of the service. Only this file reads it from the environment, once per process. */

const port = z.coerce.number().int().min(0).max(65_535);
const positive = z.coerce.number().positive();
const list = z.string().transform((text) =>
  text
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== ''),
);

export const configSchema = z.object({
  DATABASE_URL: z.string().min(1),
  /** Maximum PostgreSQL connections of one process. */
  DATABASE_POOL: z.coerce.number().int().min(4).default(10),
  TEMPORAL_ADDRESS: z.string().min(1).default('127.0.0.1:7233'),
  TEMPORAL_NAMESPACE: z.string().min(1).default('default'),
  /** Default: TLS if one of the settings below is given. */
  TEMPORAL_TLS: z
    .enum(['0', '1', 'true', 'false'])
    .transform((text) => text === '1' || text === 'true')
    .optional(),
  /** PEM files: the authority of the server's certificate, and the client's certificate with its key (mutual TLS). */
  TEMPORAL_TLS_SERVER_CA_CERT_PATH: z.string().min(1).optional(),
  TEMPORAL_TLS_CLIENT_CERT_PATH: z.string().min(1).optional(),
  TEMPORAL_TLS_CLIENT_KEY_PATH: z.string().min(1).optional(),
  /** The host name in the server's certificate, if it is not the one in TEMPORAL_ADDRESS. */
  TEMPORAL_TLS_SERVER_NAME: z.string().min(1).optional(),
  /** Sent with every call, over TLS only. */
  TEMPORAL_API_KEY: z.string().min(1).optional(),
  /** Keys that encrypt payloads in Temporal's histories; client/payload-codec.ts has the format. Default: no encryption. */
  FUNCX_PAYLOAD_KEYS_FILE: z.string().min(1).optional(),
  TEMPORAL_UI_URL: z.string().default('http://localhost:8233'),
  TEMPORAL_SUBMISSIONS_QUEUE: z.string().min(1).default(DEFAULT_TASK_QUEUE.submissions),
  TEMPORAL_ENDPOINTS_QUEUE: z.string().min(1).default(DEFAULT_TASK_QUEUE.endpoints),
  TEMPORAL_CALLS_QUEUE: z.string().min(1).default(DEFAULT_CALLS_QUEUE),
  TEMPORAL_FLOWS_QUEUE: z.string().min(1).default(DEFAULT_FLOWS_QUEUE),
  /** Name of the Nexus endpoint for pipeline calls, which must be unique in the Temporal cluster. */
  TEMPORAL_NEXUS_ENDPOINT: z.string().min(1).default(CALL_NEXUS.endpoint),
  /** Name or ID of the identity for calls from a task queue that nobody registered. `none` refuses such calls. */
  FUNCX_PIPELINE_IDENTITY: z.string().min(1).default('none'),
  AMQP_URL: z.string().min(1),
  AMQP_MANAGEMENT_URL: z.string().min(1),
  /** The broker address for clients and agents; each gets credentials of its own. */
  AMQP_PUBLIC_URL: z.string().min(1).default('amqps://localhost:5671/funcx'),
  AMQP_PUBLIC_CA_FILE: z.string().optional(),
  API_HOST: z.string().default('127.0.0.1'),
  API_PORT: port.default(5000),
  API_PUBLIC_URL: z.string().min(1).default('http://localhost:5000'),
  WS_PORT: port.default(6000),
  /** How long `api` serves after SIGTERM while `/readyz` says 503, so that load balancers send it no more connections. */
  FUNCX_STOP_DELAY_S: z.coerce.number().min(0).max(300).default(5),
  /** Where `workers` serves /healthz and /readyz. */
  HEALTH_HOST: z.string().default('127.0.0.1'),
  HEALTH_PORT: port.default(5001),
  /** 32 random bytes in hex; signs body tokens. Must be the same for every replica. */
  FUNCX_TOKEN_KEY: z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits'),
  /** JSON {client_id, client_secret, name} of an administrator that the service creates at start. */
  FUNCX_BOOTSTRAP_IDENTITY_FILE: z.string().optional(),
  /** JSON {client_id, client_secret, endpoint_id, public} of an agent that serves an endpoint of this administrator. */
  FUNCX_BOOTSTRAP_AGENT_FILE: z.string().optional(),
  FUNCX_HEARTBEAT_PERIOD_S: positive.default(5),
  FUNCX_ACK_WITHIN_MS: positive.default(600_000),
  FUNCX_MAX_BODY_CHARS: positive.default(10_485_760),
  FUNCX_MAX_REQUEST_BYTES: positive.default(64 * 1024 * 1024),
  /** The broker's `max_message_size`. */
  FUNCX_MAX_MESSAGE_BYTES: positive.default(16 * 1024 * 1024),
  FUNCX_INLINE_BODY_BYTES: positive.default(1_000_000),
  FUNCX_MAX_TASKS_PER_SUBMISSION: z.coerce.number().int().min(1).max(1_000_000).default(5_000),
  FUNCX_MAX_OPEN_TASKS: z.coerce.number().int().min(1).default(1_000_000),
  /** Limits for one owner; `funcx limits` shows them. */
  FUNCX_MAX_OPEN_GROUPS: z.coerce.number().int().min(1).default(10_000),
  FUNCX_MAX_FUNCTIONS: z.coerce.number().int().min(1).default(10_000),
  FUNCX_MAX_ENDPOINTS: z.coerce.number().int().min(1).default(1_000),
  FUNCX_MAX_USER_ENDPOINTS: z.coerce.number().int().min(1).default(1_000),
  /** Bytes of functions, arguments and results. */
  FUNCX_MAX_STORED_BYTES: positive.default(20 * 1024 ** 3),
  /** Maximum number of connections to the results WebSocket of one process. */
  FUNCX_MAX_RESULT_SOCKETS: z.coerce.number().int().min(1).default(200),
  FUNCX_MAX_API_TOKENS: z.coerce.number().int().min(1).default(100),
  FUNCX_MAX_SCHEDULES: z.coerce.number().int().min(1).default(100),
  FUNCX_MAX_ACTIVE_RUNS: z.coerce.number().int().min(1).default(1_000),
  /** Maximum AMQP connections of one broker user, which may open ten times as many channels. */
  FUNCX_MAX_AMQP_CONNECTIONS: z.coerce.number().int().min(10).default(200),
  FUNCX_MAX_INFRASTRUCTURE_RETRIES: z.coerce.number().int().min(0).default(3),
  FUNCX_AUDIT_DAYS: positive.default(90),
  FUNCX_RETENTION_DAYS: positive.default(14),
  FUNCX_RESULT_QUEUE_EXPIRY_S: positive.default(7 * 24 * 3600),
  /**
   * Addresses of action providers that flows may use over HTTP, separated by commas. `https://host/*` allows every address below
   * it. A network such as `10.1.0.0/16` allows host names that resolve to a private address in this network.
   */
  FUNCX_FLOWS_HTTP_ALLOW: list
    .refine((all) => all.every((one) => isNetwork(one) || isAllowListEntry(one)), {
      message: 'must be addresses such as https://host/*, or networks such as 10.1.0.0/16, separated by commas',
    })
    .default([]),
  /** Address of an OpenID Connect provider, exactly as its tokens name it in `iss`. Without it, only local identities exist. */
  FUNCX_OIDC_ISSUER: z
    .string()
    .refine(isSafeAddress, { message: 'must be an https:// address; http:// is for a provider on this machine only' })
    .optional(),
  /** Accepted audiences (`aud`) of the provider's access tokens, separated by commas; one of them must match. */
  FUNCX_OIDC_AUDIENCE: list.default([]),
  /** The client of this service at the provider, for the login page and for introspection. A public client has no secret. */
  FUNCX_OIDC_CLIENT_ID: z.string().min(1).optional(),
  FUNCX_OIDC_CLIENT_SECRET: z.string().min(1).optional(),
  /** Requested by the login page and by `funcx login`. */
  FUNCX_OIDC_SCOPES: z.string().min(1).default('openid profile email'),
  /** The public client of `funcx login` at the provider, which must allow the device flow for it. */
  FUNCX_OIDC_DEVICE_CLIENT_ID: z.string().min(1).optional(),
  /** Additional parameters that `funcx login` sends to the provider, such as `resource=https://funcx.example`. */
  FUNCX_OIDC_DEVICE_PARAMETERS: z.string().default(''),
  /** The claim that gives a new identity its name. */
  FUNCX_OIDC_NAME_CLAIM: z.string().min(1).default('preferred_username'),
  /** Claims with groups or roles, separated by commas. Dots select members of objects, as in `realm_access.roles`. */
  FUNCX_OIDC_GROUPS_CLAIM: list.default(['groups']),
  /** Members of this group of the provider are administrators. */
  FUNCX_OIDC_ADMIN_GROUP: z.string().min(1).optional(),
  /** Groups of the provider whose members may use the service, separated by commas. Default: every user of the provider. */
  FUNCX_OIDC_ALLOWED_GROUPS: list.default([]),
  /** 1: validate access tokens that are not JWTs by introspection at the provider. */
  FUNCX_OIDC_INTROSPECTION: z.enum(['0', '1']).default('0'),
  /** Maximum difference between the clocks of the provider and the service. */
  FUNCX_OIDC_CLOCK_TOLERANCE_S: z.coerce.number().int().min(0).max(300).default(30),
  /** How long a login through the login page lasts before the provider must confirm the user again. */
  FUNCX_OIDC_LOGIN_DAYS: positive.default(30),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
});

export type Config = z.infer<typeof configSchema>;

/** A quote is one character of a value, two characters in its JSON, and four in the message that contains this JSON. */
const MESSAGE_GROWTH = 4;

/** Reads and validates the environment. Throws one error that names every invalid variable. */
export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const parsed = configSchema.safeParse(env);
  if (!parsed.success)
    throw new Error(`The configuration is not valid. Correct these environment variables:\n${z.prettifyError(parsed.error)}`);
  if (parsed.data.FUNCX_OIDC_ISSUER !== undefined && parsed.data.FUNCX_OIDC_AUDIENCE.length === 0)
    throw new Error(
      'FUNCX_OIDC_ISSUER is set, but FUNCX_OIDC_AUDIENCE is not. Set it to the audience of the access tokens for this service; ' +
        'without it, a token for any other service of the provider would be accepted.',
    );
  const { FUNCX_INLINE_BODY_BYTES: inline, FUNCX_MAX_MESSAGE_BYTES: message } = parsed.data;
  if (inline * MESSAGE_GROWTH > message)
    throw new Error(
      `FUNCX_INLINE_BODY_BYTES is ${inline}, and FUNCX_MAX_MESSAGE_BYTES is ${message}. Set the first to at most a quarter of the ` +
        'second: a body may be four times as long in its message, and the broker would refuse it again and again.',
    );
  return parsed.data;
}

/** PEM of the private authority that signed the broker's certificate, if any. */
export function readBrokerAuthority(config: Config): string | undefined {
  return config.AMQP_PUBLIC_CA_FILE === undefined ? undefined : readFileSync(config.AMQP_PUBLIC_CA_FILE, 'utf8');
}

export function withoutSecrets(config: Config): Record<string, unknown> {
  const hide = (text: string): string => {
    try {
      const url = new URL(text);
      if (url.password) url.password = '***';
      return url.toString();
    } catch {
      return text;
    }
  };
  const { FUNCX_TOKEN_KEY: _key, TEMPORAL_API_KEY: _apiKey, FUNCX_OIDC_CLIENT_SECRET: _secret, ...rest } = config;
  return Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, typeof value === 'string' ? hide(value) : value]));
}
