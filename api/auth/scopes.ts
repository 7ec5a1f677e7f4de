/** Which resource server each requested scope belongs to; one token is issued per resource server. */

export const COMPUTE_RESOURCE_SERVER = 'funcx_service';
const AUTH_RESOURCE_SERVER = 'auth.globus.org';
/** The resource server of Globus Compute, as the clients name it in scopes. */
const COMPUTE_ID = 'facd7ccc-c5f4-42aa-916b-a0e270e2c2a9';
export const COMPUTE_SCOPE = `https://auth.globus.org/scopes/${COMPUTE_ID}/all`;

function resourceServerOf(scope: string): string {
  const byUrl = /^https:\/\/auth\.globus\.org\/scopes\/([^/]+)\/[^/]+$/.exec(scope);
  if (byUrl?.[1]) return byUrl[1] === COMPUTE_ID ? COMPUTE_RESOURCE_SERVER : byUrl[1];
  const byUrn = /^urn:globus:auth:scope:([^:]+):[^:]+$/.exec(scope);
  if (byUrn?.[1]) return byUrn[1];
  return AUTH_RESOURCE_SERVER; // openid, email, profile
}

export interface WantedToken {
  scope: string;
  resourceServer: string;
}

/** The tokens to issue, in the order in which their scopes were asked for. Without a scope: one for the compute service. */
export function splitScopes(requested: string): WantedToken[] {
  const scopes = [...new Set(requested.split(' ').filter((scope) => scope !== ''))]; // clients repeat scopes
  if (scopes.length === 0) scopes.push(COMPUTE_SCOPE);
  const byServer = new Map<string, string[]>();
  for (const scope of scopes) {
    const server = resourceServerOf(scope);
    byServer.set(server, [...(byServer.get(server) ?? []), scope]);
  }
  return [...byServer].map(([resourceServer, list]) => ({ resourceServer, scope: list.join(' ') }));
}
