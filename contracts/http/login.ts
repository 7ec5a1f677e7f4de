import { z } from 'zod';

/** Interactive login, in which the user copies a code (OAuth 2.0 authorization code with PKCE, RFC 7636). */

export const authorizeQuerySchema = z.object({
  client_id: z.string().min(1).max(200),
  redirect_uri: z.string().max(2_000),
  scope: z.string().max(10_000).default(''),
  state: z.string().max(1_000).default(''),
  response_type: z.literal('code'),
  code_challenge: z.string().regex(/^[A-Za-z0-9_=-]{43,128}$/),
  code_challenge_method: z.literal('S256'),
});

export const authorizeFormSchema = authorizeQuerySchema.extend({
  identity: z.string().max(500),
  secret: z.string().max(1_000),
});
