/**
 * An OpenID Connect provider for tests: `oidc-provider`, which jest cannot load. Reads JSON from the variable PROVIDER:
 * {port, keys, users: {id: {name, groups}}, format: "jwt" | "opaque"}. Whoever is asked to log in is the user in the query
 * parameter `login_hint`, or else the first one. Prints a line when it listens.
 */
import { createServer } from 'node:http';

import { Provider } from 'oidc-provider';

const { port, keys, users, format = 'jwt', service = 'http://localhost:1' } = JSON.parse(process.env.PROVIDER);
const issuer = `http://localhost:${port}`;
const API = 'https://funcx.example';
const claimsOf = (id) => ({ sub: id, preferred_username: users[id]?.name, groups: users[id]?.groups });

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: 'funcx-api',
      client_secret: 'a secret of the service',
      redirect_uris: [`${service}/v2/oauth2/callback`],
      grant_types: ['authorization_code'],
    },
    {
      client_id: 'funcx-cli',
      token_endpoint_auth_method: 'none',
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
      redirect_uris: [],
      response_types: [],
    },
    {
      client_id: 'robot',
      client_secret: 'a secret of the robot',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  jwks: { keys },
  cookies: { keys: ['cookies of a test'] },
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
  ttl: {
    AccessToken: 600,
    ClientCredentials: 600,
    DeviceCode: 600,
    RefreshToken: 3_600,
    Grant: 3_600,
    IdToken: 600,
    Interaction: 600,
    Session: 3_600,
  },
  findAccount: (_ctx, id) => (users[id] === undefined ? undefined : { accountId: id, claims: () => claimsOf(id) }),
  extraTokenClaims: (_ctx, token) => (token.accountId === undefined ? { groups: [] } : claimsOf(token.accountId)),
  features: {
    devInteractions: { enabled: false },
    deviceFlow: { enabled: true },
    introspection: { enabled: true },
    clientCredentials: { enabled: true },
    userinfo: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: 'call', audience: API, accessTokenTTL: 600, accessTokenFormat: format }),
    },
  },
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  pkce: { required: () => true },
  issueRefreshToken: () => true,
});
const callback = provider.callback();

/** Logs the user in and consents, in one step. */
async function interact(req, res) {
  const { params } = await provider.interactionDetails(req, res);
  const accountId = params.login_hint ?? Object.keys(users)[0];
  const grant = new provider.Grant({ accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope ?? 'openid');
  if (params.resource) grant.addResourceScope(params.resource, 'call');
  await provider.interactionFinished(req, res, { login: { accountId }, consent: { grantId: await grant.save() } });
}

createServer((req, res) => {
  if (!req.url.startsWith('/interaction/')) return callback(req, res);
  interact(req, res).catch((error) => res.writeHead(500).end(String(error.stack)));
}).listen(port, '127.0.0.1', () => console.log('listening'));
process.on('disconnect', () => process.exit()); // the test has ended
