import { TerminalError } from '../../contracts/errors';
import { authorizeFormSchema, authorizeQuerySchema } from '../../contracts/http/login';
import type { Identities } from '../../platform/identities';
import type { Logins } from '../../platform/logins';
import { ANSWERED, route, type Route } from '../route';
import { sendCode, sendForm, type LoginFields } from './login-page';

/**
 * Interactive login as the Python clients use it: the person opens an address, says who they are, and copies a code to the
 * terminal. Nobody is ever sent elsewhere, so a code can't be led to somebody else's address.
 */

/** Where the code would be shown by Globus; the clients name it below our own address. */
const CODE_PAGE = /\/v2\/web\/auth-code$/;

export function loginRoutes(identities: Identities, logins: Logins): Route[] {
  return [
    route({
      method: 'get',
      path: '/v2/oauth2/authorize',
      summary: 'The page of an interactive login',
      access: 'open',
      contentType: 'text/html',
      query: authorizeQuerySchema,
      handle: ({ query, res }) => {
        requireCodePage(query);
        sendForm(res, fieldsOf(query));
        return ANSWERED;
      },
    }),
    route({
      method: 'post',
      path: '/v2/oauth2/authorize',
      summary: 'Logs in and shows the code that the waiting program wants',
      access: 'open',
      bodyKind: 'form',
      contentType: 'text/html',
      body: authorizeFormSchema,
      handle: async ({ body, res }) => {
        requireCodePage(body);
        const row = await identities.find(body.identity.trim());
        const who = row && (await identities.authenticateClient(row.id, body.secret));
        if (!who) {
          sendForm(res, fieldsOf(body), 'The identity or its secret is wrong, or the identity was revoked. Try again.');
          return ANSWERED;
        }
        const code = await logins.issueCode(who.id, {
          clientId: body.client_id,
          redirectUri: body.redirect_uri,
          challenge: body.code_challenge,
          scope: body.scope,
        });
        sendCode(res, code, who.name);
        return ANSWERED;
      },
    }),
  ];
}

function requireCodePage({ redirect_uri: uri }: LoginFields): void {
  if (CODE_PAGE.test(uri)) return;
  throw new TerminalError('INVALID_REQUEST', 'only programs that ask for a code to copy can log in here; use client credentials');
}

function fieldsOf(all: LoginFields): LoginFields {
  const { client_id, redirect_uri, scope, state, response_type, code_challenge, code_challenge_method } = all;
  return { client_id, redirect_uri, scope, state, response_type, code_challenge, code_challenge_method };
}
