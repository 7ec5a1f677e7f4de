import { z } from 'zod';

/** API tokens: `/v1/tokens`. */

/**
 * What a token may be used for. `read`: see objects and results. `submit`: register functions, submit, cancel and retry, run
 * flows and schedules. `endpoints`: register, change and serve endpoints. `admin`: everything else, such as groups, the task
 * queues of pipelines and, for administrators, the service.
 */
export const TOKEN_SCOPES = ['read', 'submit', 'endpoints', 'admin'] as const;
export type TokenScope = (typeof TOKEN_SCOPES)[number];

const DAY_S = 86_400;
const MAX_DAYS = 366;

export const createTokenSchema = z.object({
  name: z
    .string()
    .min(1)
    .max(100)
    .regex(/^[^\p{Cc}]+$/u, 'must not have control characters'),
  scopes: z.array(z.enum(TOKEN_SCOPES)).min(1).max(TOKEN_SCOPES.length),
  /** Seconds until the token expires. */
  expires_in: z
    .int()
    .min(60)
    .max(MAX_DAYS * DAY_S)
    .default(30 * DAY_S),
});

export const tokenSchema = z.object({
  token_id: z.string(),
  name: z.string(),
  scopes: z.array(z.enum(TOKEN_SCOPES)),
  created_at: z.string(),
  expires_at: z.string(),
  /** Accurate to about a minute; null before the first use. */
  last_used_at: z.string().nullable(),
});
export type TokenDocument = z.infer<typeof tokenSchema>;
/** The only response that contains the token. */
export const createdTokenSchema = tokenSchema.extend({ token: z.string() });
export type CreatedToken = z.infer<typeof createdTokenSchema>;
export const tokenListSchema = z.object({ tokens: z.array(tokenSchema) });
export const tokensQuerySchema = z.object({
  /** For administrators: name or ID of the identity whose tokens to list or revoke. Default: your own. */
  identity: z.string().min(1).max(200).optional(),
});
export const revokedTokenSchema = z.object({ token_id: z.string(), revoked: z.literal(true) });
