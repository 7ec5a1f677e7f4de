import { mkdirSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

import { z } from 'zod';

import { readJson, writeJson } from '../local/machine/files';
import { UserError } from '../local/machine/user-error';

/** The login that `funcx login` saves in a file that only its user can read. Its access token is renewed when necessary. */

const savedLoginSchema = z.object({
  api_url: z.string(),
  /** PEM file of the private authority of the service, if it has one. */
  ca_file: z.string().nullable(),
  issuer: z.string(),
  client_id: z.string(),
  token_endpoint: z.string(),
  parameters: z.record(z.string(), z.string()),
  access_token: z.string(),
  refresh_token: z.string().optional(),
  expires_at: z.string(),
});
export type SavedLogin = z.infer<typeof savedLoginSchema>;

export const tokensSchema = z.object({
  access_token: z.string(),
  refresh_token: z.string().optional(),
  /** Seconds. */
  expires_in: z.number().default(300),
});

/** The token is renewed this long before it expires, so that it does not expire during a request. */
const RENEW_EARLY_MS = 30_000;
const TIMEOUT_MS = 30_000;

const loginFile = (): string => join(process.env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'funcx', 'login.json');

export function readLogin(): SavedLogin | undefined {
  const parsed = savedLoginSchema.safeParse(readJson(loginFile()));
  return parsed.success ? parsed.data : undefined;
}

export function saveLogin(
  login: Omit<SavedLogin, keyof z.infer<typeof tokensSchema> | 'expires_at'>,
  tokens: z.output<typeof tokensSchema>,
): SavedLogin {
  const saved = {
    ...login,
    access_token: tokens.access_token,
    refresh_token: tokens.refresh_token,
    expires_at: new Date(Date.now() + tokens.expires_in * 1_000).toISOString(),
  };
  mkdirSync(dirname(loginFile()), { recursive: true, mode: 0o700 });
  writeJson(loginFile(), saved);
  return saved;
}

export function forgetLogin(): boolean {
  const had = readLogin() !== undefined;
  rmSync(loginFile(), { force: true });
  return had;
}

/** Returns a valid access token. Throws UserError when the user must log in again. */
export async function tokenOfLogin(): Promise<string> {
  const login = readLogin();
  if (!login) throw new UserError('You are not logged in any more; run "funcx login".');
  if (Date.parse(login.expires_at) - Date.now() > RENEW_EARLY_MS) return login.access_token;
  return renew(login);
}

async function renew(login: SavedLogin): Promise<string> {
  const again = `Your login at ${login.issuer} has ended; run "funcx login ${login.api_url}".`;
  if (login.refresh_token === undefined) throw new UserError(again);
  const form = {
    grant_type: 'refresh_token',
    refresh_token: login.refresh_token,
    client_id: login.client_id,
    ...login.parameters,
  };
  const { ok, body } = await askProvider(login.token_endpoint, form);
  const tokens = tokensSchema.safeParse(body);
  // Another command may have used the refresh token meanwhile. Such a token is often valid only once.
  const present = readLogin();
  if (present && present.access_token !== login.access_token) return present.access_token;
  if (!ok || !tokens.success) throw new UserError(again);
  return saveLogin(login, { refresh_token: login.refresh_token, ...tokens.data }).access_token;
}

/** Sends a form to an address of the provider. Throws UserError when the provider does not answer. */
export async function askProvider(url: string, form: Record<string, string>): Promise<{ ok: boolean; body: unknown }> {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { accept: 'application/json' },
      body: new URLSearchParams(form),
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return { ok: response.ok, body: await response.json() };
  } catch (cause) {
    const { message, cause: inner } = cause as Error;
    const reason = inner instanceof Error ? inner.message : message;
    throw new UserError(`The identity provider at ${url} does not answer (${reason}); try again, or check the network.`, {
      cause,
    });
  }
}
