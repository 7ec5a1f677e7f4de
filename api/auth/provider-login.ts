import type { Request, Response } from 'express';

import { ensureError, FuncXError, RetryableError, TerminalError } from '../../contracts/errors';
import { loginAnswerQuerySchema, loginOptionsSchema, providerLoginFormSchema } from '../../contracts/http/login';
import type { Logins } from '../../platform/logins';
import { createCodeLogin, refusedBy } from '../../platform/oidc/code-login';
import type { IdentityProvider } from '../../platform/oidc/provider';
import type { ApiDeps } from '../deps';
import { ANSWERED, route, type Route } from '../route';
import { issueCode, requireCodePageRedirect } from './login';
import { sendCode, sendHandover, sendProblem, type ProviderOffer } from './login-page';
import { createLoginStates, isEqual, makeTicket } from './login-state';

/** Logins at the OpenID Connect provider: the login page hands the browser over, and shows the code when it comes back. */

const COOKIE = 'funcx_login';
const COOKIE_LIFETIME_S = 600;
/** Longer addresses do not pass through every proxy. */
const MAX_STATE_CHARS = 6_000;
const CALLBACK = '/v2/oauth2/callback';

type Deps = Pick<ApiDeps, 'config' | 'identityProvider' | 'identities'> & { logins: Logins };

export interface ProviderLogin {
  /** The provider's host and a new ticket; undefined without a provider. Sets the cookie that binds the ticket to the browser. */
  offerLogin(res: Response): ProviderOffer | undefined;
  routes: Route[];
}

export function createProviderLogin({ config, identityProvider, identities, logins }: Deps): ProviderLogin {
  const codeLogin =
    identityProvider &&
    createCodeLogin(identityProvider, {
      redirectUri: new URL(CALLBACK, config.API_PUBLIC_URL).toString(),
      scopes: config.FUNCX_OIDC_SCOPES,
      key: config.FUNCX_TOKEN_KEY,
    });
  const loginStates = createLoginStates(config.FUNCX_TOKEN_KEY);

  function offerLogin(res: Response): ProviderOffer | undefined {
    if (!identityProvider || !codeLogin) return undefined;
    const ticket = makeTicket();
    res.cookie(COOKIE, ticket, {
      httpOnly: true,
      sameSite: 'lax', // sent when the provider sends the browser back, but not with forms of other sites
      secure: config.API_PUBLIC_URL.startsWith('https:'),
      path: '/v2/oauth2',
      maxAge: COOKIE_LIFETIME_S * 1_000,
    });
    return { provider: new URL(identityProvider.issuer).host, ticket };
  }

  const handOver = route({
    method: 'post',
    path: '/v2/oauth2/authorize/provider',
    summary: 'Hands an interactive login over to the OpenID Connect provider',
    access: 'open',
    bodyKind: 'form',
    contentType: 'text/html',
    body: providerLoginFormSchema,
    errors: ['NOT_FOUND'],
    handle: async ({ body, req, res }) => {
      if (!codeLogin) throw noProvider();
      const { ticket, ...fields } = body;
      requireCodePageRedirect(fields);
      if (!isEqual(Buffer.from(ticket), Buffer.from(ticketOf(req)))) return showProblem(res, otherBrowser());
      const state = loginStates.seal(fields, ticket);
      if (state.length > MAX_STATE_CHARS) return showProblem(res, tooLong());
      try {
        sendHandover(res, await codeLogin.addressFor(state));
      } catch (error) {
        return showProblem(res, error);
      }
      return ANSWERED;
    },
  });

  const callback = route({
    method: 'get',
    path: CALLBACK,
    summary: 'Takes the browser back from the OpenID Connect provider and shows the code to copy to the waiting program',
    access: 'open',
    contentType: 'text/html',
    query: loginAnswerQuerySchema,
    errors: ['NOT_FOUND', 'UNAUTHENTICATED', 'FORBIDDEN'],
    handle: async ({ query, req, res }) => {
      if (!identityProvider || !codeLogin) throw noProvider();
      try {
        const fields = loginStates.open(query.state, ticketOf(req));
        if (!fields) throw otherBrowser();
        // Another provider must not answer in place of ours (RFC 9207).
        if (query.iss !== undefined && query.iss !== identityProvider.issuer) throw otherProvider();
        if (query.code === undefined) throw refusedBy(identityProvider.issuer, query);
        const who = await identities.ofProviderUser(await codeLogin.finish(query.state, query.code));
        res.clearCookie(COOKIE, { path: '/v2/oauth2' });
        sendCode(res, await issueCode(logins, who.id, fields), who.name);
      } catch (error) {
        return showProblem(res, error);
      }
      return ANSWERED;
    },
  });

  const deviceLogin = route({
    method: 'get',
    path: '/v1/login',
    summary: 'Returns where a command line gets tokens of the OpenID Connect provider by the device flow (RFC 8628)',
    access: 'open',
    response: loginOptionsSchema,
    errors: ['NOT_FOUND'],
    handle: async () => {
      const clientId = config.FUNCX_OIDC_DEVICE_CLIENT_ID;
      if (!identityProvider || clientId === undefined) throw noProvider();
      return deviceOptions(identityProvider, clientId, config.FUNCX_OIDC_SCOPES, config.FUNCX_OIDC_DEVICE_PARAMETERS);
    },
  });

  return { offerLogin, routes: [handOver, callback, deviceLogin] };
}

async function deviceOptions(
  { issuer, parts }: IdentityProvider,
  clientId: string,
  scope: string,
  parameters: string,
): Promise<object> {
  const { device_authorization_endpoint: device, token_endpoint: token } = await parts.discover();
  if (device === undefined || token === undefined)
    throw new TerminalError('NOT_FOUND', `the provider ${issuer} has no device flow; set FUNCX_TOKEN to an access token instead`);
  return {
    issuer,
    client_id: clientId,
    scope,
    device_authorization_endpoint: device,
    token_endpoint: token,
    parameters: Object.fromEntries(new URLSearchParams(parameters)),
  };
}

const noProvider = (): TerminalError =>
  new TerminalError('NOT_FOUND', 'this service offers no login at an identity provider; log in with an identity of this service');

const otherBrowser = (): TerminalError =>
  new TerminalError('UNAUTHENTICATED', 'this login was begun in another browser, or more than ten minutes ago; begin again');

const otherProvider = (): TerminalError =>
  new TerminalError('UNAUTHENTICATED', 'this answer came from another identity provider; begin the login again');

const tooLong = (): TerminalError =>
  new TerminalError('INVALID_REQUEST', 'this login request is too long to pass on; ask for fewer scopes and begin again');

/** Sends the error as a page, because a person reads it. The audit log gets the code of the error. */
function showProblem(res: Response, thrown: unknown): typeof ANSWERED {
  const error = ensureError(thrown);
  if (!(error instanceof FuncXError)) throw error;
  res.locals.errorCode = error.code;
  if (error instanceof RetryableError) res.setHeader('retry-after', '5');
  sendProblem(res, error.httpStatus, error.message);
  return ANSWERED;
}

function ticketOf(req: Request): string {
  const pairs = (req.headers.cookie ?? '').split(';').map((pair) => pair.trim().split('='));
  return pairs.find(([name]) => name === COOKIE)?.[1] ?? '';
}
