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

/** Continues the login at the OpenID Connect provider. `ticket` is the value of the cookie that the login page has set. */
export const providerLoginFormSchema = authorizeQuerySchema.extend({ ticket: z.string().min(1).max(100) });

/** The query with which the provider sends the browser back: a code or an error. */
export const loginAnswerQuerySchema = z.object({
  state: z.string().max(10_000),
  code: z.string().min(1).max(4_000).optional(),
  iss: z.string().max(2_000).optional(),
  error: z.string().max(200).optional(),
  error_description: z.string().max(1_000).optional(),
});

/** `GET /v1/login`: where and how to get tokens of the OpenID Connect provider by the device flow (RFC 8628). */
export const loginOptionsSchema = z.object({
  issuer: z.string(),
  client_id: z.string(),
  scope: z.string(),
  device_authorization_endpoint: z.string(),
  token_endpoint: z.string(),
  /** Further parameters to send to both endpoints. */
  parameters: z.record(z.string(), z.string()),
});
export type LoginOptions = z.infer<typeof loginOptionsSchema>;
