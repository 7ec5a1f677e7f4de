import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { z } from 'zod';

import { resolveOptions, ServiceHttp } from '../client';
import { loginOptionsSchema, type LoginOptions } from '../contracts/http/login';
import { UserError } from '../local/machine/user-error';

import { connectionOfSystem, RETRY_MS } from './connection';
import { addCommonOptions, print, printJson } from './output';
import { askProvider, forgetLogin, saveLogin, tokensSchema } from './saved-login';

import type { Command } from 'commander';

import type { CommonOptions } from './output';

/** `login` and `logout`. `login` gets tokens from the service's OpenID Connect provider with the device flow (RFC 8628). */

const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';
/** Seconds between two polls, if the provider does not say (RFC 8628, section 3.2). */
const DEFAULT_INTERVAL_S = 5;
/** After `slow_down` (RFC 8628, section 3.5). */
const SLOWER_BY_S = 5;

const deviceSchema = z.object({
  device_code: z.string(),
  user_code: z.string(),
  verification_uri: z.string(),
  verification_uri_complete: z.string().optional(),
  expires_in: z.number().default(600),
  interval: z.number().default(DEFAULT_INTERVAL_S),
});
const refusalSchema = z.object({ error: z.string(), error_description: z.string().optional() });
const userSchema = z.object({ sub: z.string(), name: z.string() });

export function addLoginCommands(program: Command): void {
  addCommonOptions(
    program.command('login').description('log in at the identity provider of a service; later commands then act as you'),
  )
    .argument('[service]', 'address of the service (default: FUNCX_API_URL, else the system in the data folder)')
    .action((service: string | undefined, options: CommonOptions) => login(service, options));
  addCommonOptions(program.command('logout').description('forget the login')).action((options: CommonOptions) => logout(options));
}

async function login(service: string | undefined, options: CommonOptions): Promise<void> {
  const { apiUrl, caFile } = serviceOf(service, options.dataDir);
  const ca = caFile !== null && existsSync(caFile) ? { ca: caFile } : {};
  let token = '';
  const http = new ServiceHttp(resolveOptions({ apiUrl, token: async () => token, ...ca, retryForMs: RETRY_MS }));
  try {
    const provider = loginOptionsSchema.parse(await http.request({ method: 'GET', path: '/v1/login' }));
    const tokens = await askUser(provider);
    token = tokens.access_token;
    // The login is saved only if the service accepts the token.
    const user = userSchema.parse(await http.request({ method: 'GET', path: '/v2/oauth2/userinfo' }));
    const { issuer, client_id, token_endpoint, parameters } = provider;
    saveLogin({ api_url: apiUrl, ca_file: caFile, issuer, client_id, token_endpoint, parameters }, tokens);
    if (options.json === true) printJson({ api_url: apiUrl, name: user.name, client_id: user.sub });
    else print(`You are ${user.name} at ${apiUrl}. Commands now act as you. To log out, run "funcx logout".`);
  } finally {
    http.close();
  }
}

function serviceOf(service: string | undefined, dataDir: string): { apiUrl: string; caFile: string | null } {
  const address = service ?? process.env.FUNCX_API_URL;
  if (!address) return connectionOfSystem(dataDir);
  return { apiUrl: address.replace(/\/+$/, ''), caFile: process.env.FUNCX_CA || null };
}

/** Shows the code on standard error, because programs read standard output. Waits until the user has entered the code. */
async function askUser(provider: LoginOptions): Promise<z.output<typeof tokensSchema>> {
  const { client_id, scope, parameters } = provider;
  const begun = await askProvider(provider.device_authorization_endpoint, { client_id, scope, ...parameters });
  const device = deviceSchema.safeParse(begun.body);
  if (!begun.ok) throw new UserError(`${provider.issuer} does not let this program log in: ${reasonOf(begun.body)}.`);
  if (!device.success)
    throw new UserError(
      `${provider.issuer} sent no valid device code. Ask the operator to check the device flow of the provider.`,
    );
  const { verification_uri, verification_uri_complete, user_code } = device.data;
  process.stderr.write(`Open ${verification_uri_complete ?? verification_uri} and confirm the code ${user_code}.\n`);
  return waitForUser(provider, device.data);
}

async function waitForUser(
  { token_endpoint, client_id, parameters, issuer }: LoginOptions,
  { device_code, expires_in, interval }: z.output<typeof deviceSchema>,
): Promise<z.output<typeof tokensSchema>> {
  const deadline = Date.now() + expires_in * 1_000;
  for (let pauseS = interval; Date.now() < deadline;) {
    await sleep(pauseS * 1_000);
    const { ok, body } = await askProvider(token_endpoint, { grant_type: DEVICE_GRANT, device_code, client_id, ...parameters });
    if (ok) return tokensSchema.parse(body);
    const refusal = refusalSchema.safeParse(body);
    const error = refusal.success ? refusal.data.error : undefined;
    if (error === 'slow_down') pauseS += SLOWER_BY_S;
    else if (error === 'expired_token') break;
    else if (error !== 'authorization_pending') throw new UserError(`${issuer} refused the login: ${reasonOf(body)}.`);
  }
  throw new UserError('Nobody confirmed the code in time; run "funcx login" again.');
}

function reasonOf(body: unknown): string {
  const refusal = refusalSchema.safeParse(body);
  return refusal.success ? (refusal.data.error_description ?? refusal.data.error) : 'the provider gave no reason';
}

function logout(options: CommonOptions): void {
  const was = forgetLogin();
  if (options.json === true) printJson({ logged_out: was });
  else print(was ? 'Logged out.' : 'You were not logged in.');
}
