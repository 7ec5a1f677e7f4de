import { isUuid } from '../../contracts/ids';
import type { Identities } from '../../platform/identities';

/** Client credentials of an OAuth 2.0 request, from `Authorization: Basic` or from the form. */

export interface ClientCredentials {
  id: string;
  secret: string;
}

export function readClientCredentials(
  authorization: string | undefined,
  form: { client_id?: string | undefined; client_secret?: string | undefined },
): ClientCredentials | undefined {
  const basic = /^Basic +([A-Za-z0-9+/_=-]+) *$/i.exec(authorization ?? '');
  if (basic?.[1]) {
    const text = Buffer.from(basic[1], 'base64').toString('utf8');
    const colon = text.indexOf(':');
    return colon < 0 ? undefined : { id: text.slice(0, colon), secret: text.slice(colon + 1) };
  }
  if (form.client_id === undefined || form.client_secret === undefined) return undefined;
  return { id: form.client_id, secret: form.client_secret };
}

export async function authenticateClient(
  identities: Identities,
  credentials: ClientCredentials | undefined,
): Promise<{ id: string; name: string } | undefined> {
  const id = credentials?.id.toLowerCase() ?? '';
  if (!credentials || !isUuid(id)) return undefined;
  return identities.authenticateClient(id, credentials.secret);
}
