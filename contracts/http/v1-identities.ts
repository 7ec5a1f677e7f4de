import { z } from 'zod';

import { registerAgentSchema, uuidSchema } from './v1';

/** Schemas of `/v1` for who may do what: enrolment of agents, identities, groups, limits and the audit log. */

/** `POST /v1/invitations`: a one-time code with which an agent on another machine enrols. */
export const inviteSchema = z
  .object({
    /** The name of an endpoint of yours. If you have none of this name, the service creates one. */
    name: registerAgentSchema.shape.name.optional(),
    endpoint_id: uuidSchema.optional(),
    /** `public` and `group`: who may submit to a new endpoint besides you. For an existing endpoint, they cause 409 CONFLICT. */
    public: z.boolean().optional(),
    group: uuidSchema.optional(),
    /** How long the code works, in seconds. */
    expires_in_s: z
      .int()
      .min(60)
      .max(30 * 86_400)
      .default(3_600),
  })
  .refine(({ name, endpoint_id: id }) => (name === undefined) !== (id === undefined), 'give one of name and endpoint_id');
export const invitationSchema = z.object({
  endpoint_id: z.string(),
  name: z.string(),
  /** The secret of the code; only this response contains it. */
  secret: z.string(),
  expires_at: z.string(),
  /** The addresses of the service that agents get: `API_PUBLIC_URL` and `AMQP_PUBLIC_URL`. */
  api_url: z.string(),
  broker_url: z.string(),
  /** What another machine needs besides the code, one sentence each. */
  notes: z.array(z.string()),
});
export type Invitation = z.infer<typeof invitationSchema>;

/** `POST /v1/endpoints/{id}/enrolment`, with the secret of the code as bearer token. The agent chooses its own ID and secret. */
export const enrolSchema = z.object({
  /**
   * A random UUID, of version 4. The ID of a user of an OpenID Connect provider has version 8 and can be computed before the user's
   * first login; an agent that took it would lock the user out.
   */
  client_id: uuidSchema.pipe(z.uuidv4('must be a UUID of version 4')),
  client_secret: z.string().min(32).max(500),
});
export const enrolledSchema = z.object({ endpoint_id: z.string(), name: z.string(), broker_url: z.string() });

/** `POST /v1/identities` (administrators). The service generates a missing `client_id` or `client_secret`. */
export const createIdentitySchema = z.object({
  name: z.string().min(1).max(200),
  client_id: uuidSchema.optional(),
  client_secret: z.string().min(16).max(500).optional(),
  is_admin: z.boolean().default(false),
});
/** The only response that contains the secret. */
export const createdIdentitySchema = z.object({ client_id: z.string(), client_secret: z.string(), name: z.string() });
export const identitySchema = z.object({
  client_id: z.string(),
  name: z.string(),
  is_admin: z.boolean(),
  created_at: z.string(),
  revoked_at: z.string().nullable(),
  /** The OpenID Connect provider of the identity; null for local identities. */
  issuer: z.string().nullable().default(null),
});
export const identityListSchema = z.object({ identities: z.array(identitySchema) });
/** `DELETE /v1/identities/{name or id}` */
export const revokedIdentitySchema = z.object({ client_id: z.string(), revoked: z.literal(true) });

export const createGroupSchema = z.object({
  name: z.string().min(1).max(200),
  /** A group of the OpenID Connect provider. Its users are members from their next request on. */
  provider_group: z.string().min(1).max(200).optional(),
});
export const groupSchema = z.object({
  id: z.string(),
  name: z.string(),
  owner_id: z.string(),
  members: z.array(z.string()),
  provider_group: z.string().nullable().default(null),
});
export const groupListSchema = z.object({ groups: z.array(groupSchema) });
/** An identity, by ID or name. */
export const groupMemberSchema = z.object({ identity: z.string().min(1).max(200) });

export const limitListSchema = z.object({
  limits: z.array(z.object({ name: z.string(), used: z.number().int(), limit: z.number().int() })),
});

export const auditQuerySchema = z.object({
  identity: z.uuid().optional(),
  outcome: z.enum(['allowed', 'refused']).optional(),
  /** Entries before this time; RFC 3339. */
  before: z.iso.datetime({ offset: true }).optional(),
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
});
/** One change or refusal. It holds no body, query or secret. */
export const auditEntrySchema = z.object({
  at: z.string(),
  /** ID and name of the caller; null if the request had no valid access token. */
  identity: z.string().nullable(),
  name: z.string().nullable(),
  /** Method and route, such as `DELETE /v2/functions/:id`. */
  action: z.string(),
  /** The path parameters by name. */
  objects: z.record(z.string(), z.string()),
  address: z.string().nullable(),
  outcome: z.enum(['allowed', 'refused']),
  status: z.number().int(),
  code: z.string().optional(),
  request_id: z.string(),
});
export type AuditEntry = z.infer<typeof auditEntrySchema>;
export const auditListSchema = z.object({ entries: z.array(auditEntrySchema) });
