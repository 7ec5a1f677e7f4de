import type { Response } from 'express';

import { COMPUTE_RESOURCE_SERVER, FLOWS_RESOURCE_SERVER, AUTH_RESOURCE_SERVER, splitScopes } from './scopes';

/** The pages of an interactive login: forms without scripts, and a page with the code. */

const ACCESS: Readonly<Record<string, string>> = {
  [COMPUTE_RESOURCE_SERVER]: 'your functions, endpoints, tasks and results',
  [AUTH_RESOURCE_SERVER]: 'your name',
  [FLOWS_RESOURCE_SERVER]: 'your flows and their runs',
};

export interface LoginFields {
  client_id: string;
  redirect_uri: string;
  scope: string;
  state: string;
  response_type: string;
  code_challenge: string;
  code_challenge_method: string;
}

/** The identity provider that the page offers, and the ticket that ties a login there to this browser. */
export interface ProviderOffer {
  provider: string;
  ticket: string;
}

export function sendForm(res: Response, fields: LoginFields, offer?: ProviderOffer, problem?: string): void {
  send(
    res,
    problem === undefined ? 200 : 401,
    `<h1>Log in to funcX</h1>
${problem === undefined ? '' : `<p role="alert">${escapeHtml(problem)}</p>`}
<p>The program <strong>${escapeHtml(programName(fields.client_id))}</strong> asks to act on your behalf. If you did not just start it, close this page.</p>
<p>It asks for access to:</p>
<ul>${scopesOf(fields.scope)}</ul>
${offer === undefined ? '' : providerForm(fields, offer)}
<form method="post" action="/v2/oauth2/authorize">
${hidden({ ...fields })}
<p><label>Identity (name or id)<br><input name="identity" autocomplete="username" required${offer === undefined ? ' autofocus' : ''}></label></p>
<p><label>Secret<br><input name="secret" type="password" autocomplete="current-password" required></label></p>
<p><button type="submit">Log in</button></p>
</form>`,
  );
}

const hidden = (fields: Record<string, string>): string =>
  Object.entries(fields)
    .map(([name, value]) => `<input type="hidden" name="${name}" value="${escapeHtml(value)}">`)
    .join('\n');

const providerForm = (fields: LoginFields, { provider, ticket }: ProviderOffer): string =>
  `<form method="post" action="/v2/oauth2/authorize/provider">
${hidden({ ...fields, ticket })}
<p><button type="submit" autofocus>Log in at ${escapeHtml(provider)}</button></p>
</form>
<p>Or with an identity of this service:</p>`;

/** Sends a page that continues at the provider. Not a redirect, because browsers apply `form-action` to redirects as well. */
export function sendHandover(res: Response, address: string): void {
  const text = escapeHtml(address);
  send(
    res,
    200,
    `<meta http-equiv="refresh" content="0; url=${text}">
<p><a id="provider" href="${text}">Continue at ${escapeHtml(new URL(address).host)}</a></p>`,
  );
}

export function sendProblem(res: Response, status: number, problem: string): void {
  send(res, status, `<h1>You are not logged in</h1>\n<p role="alert">${escapeHtml(problem)}</p>`);
}

export function sendCode(res: Response, code: string, name: string): void {
  send(
    res,
    200,
    `<h1>You are ${escapeHtml(name)}</h1>
<p>Copy this code to the program that waits for it. It works once, within ten minutes.</p>
<p><code id="code">${escapeHtml(code)}</code></p>`,
  );
}

function send(res: Response, status: number, body: string): void {
  res.setHeader('cache-control', 'no-store');
  res.setHeader(
    'content-security-policy',
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
  );
  res.setHeader('referrer-policy', 'no-referrer');
  res.setHeader('x-content-type-options', 'nosniff');
  res
    .status(status)
    .type('html')
    .send(
      `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>funcX</title>
<style>body{font:1rem/1.5 sans-serif;max-width:32rem;margin:3rem auto;padding:0 1rem}input{font:inherit;width:100%}code{font-size:1.2rem;word-break:break-all}</style>
</head><body>
${body}
</body></html>
`,
    );
}

const PROGRAMS: Readonly<Record<string, string>> = {
  '4cf29807-cf21-49ec-9443-ff9a3fb9f81c': 'Globus Compute client',
};

const programName = (clientId: string): string => PROGRAMS[clientId.toLowerCase()] ?? clientId;

/** List items with the access that each scope gives; unknown scopes are named. */
function scopesOf(requested: string): string {
  const wanted = splitScopes(requested);
  return wanted.map(({ resourceServer, scope }) => `<li>${escapeHtml(ACCESS[resourceServer] ?? scope)}</li>`).join('');
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
