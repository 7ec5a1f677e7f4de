import { TerminalError } from '../../contracts/errors';
import { COMPUTE_ID, COMPUTE_SCOPE, FLOWS_ID } from '../../contracts/scopes';

/** Maps requested scopes to resource servers; one token is issued per resource server. */

export const COMPUTE_RESOURCE_SERVER = 'funcx_service';
export const FLOWS_RESOURCE_SERVER = 'flows.globus.org';
export const AUTH_RESOURCE_SERVER = 'auth.globus.org';

const NAMES: Readonly<Record<string, string>> = { [COMPUTE_ID]: COMPUTE_RESOURCE_SERVER, [FLOWS_ID]: FLOWS_RESOURCE_SERVER };

function resourceServerOf(scope: string): string {
  const byUrl = /^https:\/\/auth\.globus\.org\/scopes\/([^/]+)\/[^/]+$/.exec(scope);
  if (byUrl?.[1]) return NAMES[byUrl[1]] ?? byUrl[1];
  const byUrn = /^urn:globus:auth:scope:([^:]+):[^:]+$/.exec(scope);
  if (byUrn?.[1]) return byUrn[1];
  return AUTH_RESOURCE_SERVER; // openid, email, profile
}

/**
 * The scopes of a request without their dependencies: `a[*b[c d] e]` becomes `a`. Dependencies say what a service may do
 * elsewhere on behalf of the caller; a flow run acts as its starter, so no dependency is needed.
 */
function withoutDependencies(requested: string): string[] {
  let depth = 0;
  let text = '';
  for (const character of requested) {
    if (character === '[') depth++;
    else if (character === ']') depth--;
    else if (depth === 0) text += character;
    if (depth < 0) break;
  }
  if (depth !== 0) throw new TerminalError('INVALID_REQUEST', 'the brackets in "scope" do not match; close each "[" with a "]"');
  return text
    .split(' ')
    .map((scope) => scope.replace(/^\*/, ''))
    .filter((scope) => scope !== '');
}

export interface WantedToken {
  scope: string;
  resourceServer: string;
}

/** Released clients request about ten scopes, and one for each flow that a program starts. */
const MAX_SCOPES = 100;
/** Each resource server gets a token of its own. */
const MAX_RESOURCE_SERVERS = 50;

/**
 * The tokens to issue, in the order of the requested scopes. Without a scope: one token for the compute service. Throws
 * INVALID_SCOPE for more than 100 scopes or 50 resource servers, and INVALID_REQUEST for brackets that do not match.
 */
export function splitScopes(requested: string): WantedToken[] {
  const scopes = [...new Set(withoutDependencies(requested))]; // clients repeat scopes
  if (scopes.length === 0) scopes.push(COMPUTE_SCOPE);
  const byServer = new Map<string, string[]>();
  for (const scope of scopes) {
    const server = resourceServerOf(scope);
    byServer.set(server, [...(byServer.get(server) ?? []), scope]);
  }
  if (scopes.length > MAX_SCOPES || byServer.size > MAX_RESOURCE_SERVERS)
    throw new TerminalError(
      'INVALID_SCOPE',
      `a token request may name at most ${MAX_SCOPES} scopes of ${MAX_RESOURCE_SERVERS} resource servers; this one names ${scopes.length} of ${byServer.size}; request fewer`,
    );
  return [...byServer].map(([resourceServer, list]) => ({ resourceServer, scope: list.join(' ') }));
}
