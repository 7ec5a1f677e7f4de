import type { Response } from 'express';

import { TerminalError } from '../../contracts/errors';
import { authorizeFormSchema, authorizeQuerySchema } from '../../contracts/http/login';
import type { Identities } from '../../platform/identities';
import type { Logins } from '../../platform/logins';
import { ANSWERED, route, type Route } from '../route';
import type { GuessLimit } from './guess-limit';
import { sendCode, sendForm, type LoginFields, type ProviderOffer } from './login-page';

/** Login for the Python clients: the user copies a code from a page. No redirect carries a code, so nobody can divert one. */

/** An ID that no identity has; checking its secret takes as long as for any other. */
const NO_IDENTITY = '00000000-0000-0000-0000-000000000000';
/** The end of the redirect_uri of the clients. The rest is not checked, because nothing is sent to this address. */
const CODE_PAGE_END = /\/v2\/web\/auth-code$/;

export function loginRoutes(
  identities: Identities,
  logins: Logins,
  guesses: GuessLimit,
  offerLogin: (res: Response) => ProviderOffer | undefined,
): Route[] {
  return [
    route({
      method: 'get',
      path: '/v2/oauth2/authorize',
      summary: 'Shows the page of an interactive login',
      access: 'open',
      contentType: 'text/html',
      query: authorizeQuerySchema,
      handle: ({ query, res }) => {
        requireCodePageRedirect(query);
        sendForm(res, fieldsOf(query), offerLogin(res));
        return ANSWERED;
      },
    }),
    route({
      method: 'post',
      path: '/v2/oauth2/authorize',
      summary: 'Logs in and shows the code to copy to the waiting program',
      access: 'open',
      bodyKind: 'form',
      contentType: 'text/html',
      body: authorizeFormSchema,
      handle: async ({ body, req, res }) => {
        requireCodePageRedirect(body);
        const [ipAddress, name] = [req.socket.remoteAddress ?? '', body.identity.trim().toLowerCase()];
        guesses.check(ipAddress, name);
        const row = await identities.find(body.identity.trim());
        const who = await identities.authenticateClient(row?.id ?? NO_IDENTITY, body.secret);
        if (who) guesses.succeeded(ipAddress, name);
        else {
          guesses.failed(ipAddress, name);
          sendForm(
            res,
            fieldsOf(body),
            offerLogin(res),
            'The identity or its secret is wrong, or the identity was revoked. Try again.',
          );
          return ANSWERED;
        }
        sendCode(res, await issueCode(logins, who.id, body), who.name);
        return ANSWERED;
      },
    }),
  ];
}

export const issueCode = (logins: Logins, identityId: string, request: LoginFields): Promise<string> =>
  logins.issueCode(identityId, {
    clientId: request.client_id,
    redirectUri: request.redirect_uri,
    challenge: request.code_challenge,
    scope: request.scope,
  });

export function requireCodePageRedirect({ redirect_uri: uri }: LoginFields): void {
  if (CODE_PAGE_END.test(uri)) return;
  throw new TerminalError(
    'INVALID_REQUEST',
    'redirect_uri must end with /v2/web/auth-code; programs that cannot show a code use client credentials',
  );
}

function fieldsOf(all: LoginFields): LoginFields {
  const { client_id, redirect_uri, scope, state, response_type, code_challenge, code_challenge_method } = all;
  return { client_id, redirect_uri, scope, state, response_type, code_challenge, code_challenge_method };
}
