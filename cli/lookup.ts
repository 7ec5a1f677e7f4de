import { isUuid } from '../contracts/ids';
import { UserError } from '../local/machine/user-error';

import type { Client } from '../sdk';

interface Named {
  id: string;
  name: string;
}

/** The id of an endpoint given by name or id: your own, else one that is shared with you. */
export async function findEndpoint(client: Client, nameOrId: string): Promise<string> {
  if (isUuid(nameOrId.toLowerCase())) return nameOrId.toLowerCase();
  const toNamed = ({ uuid, name }: { uuid: string; name: string }): Named => ({ id: uuid, name });
  const own = (await client.endpoints()).map(toNamed);
  if (own.some(({ name }) => name === nameOrId)) return theOne('endpoint', nameOrId, own);
  return theOne('endpoint', nameOrId, (await client.endpoints({ role: 'any' })).map(toNamed));
}

/** The id of one of your functions, given by name or id. */
export async function findFunction(client: Client, nameOrId: string): Promise<string> {
  if (isUuid(nameOrId.toLowerCase())) return nameOrId.toLowerCase();
  const functions = await client.functions();
  return theOne(
    'function',
    nameOrId,
    functions.map(({ function_uuid: id, function_name: name }) => ({ id, name })),
  );
}

/** The id of a group that you own or are in, given by name or id. */
export async function findGroup(client: Client, nameOrId: string): Promise<string> {
  if (isUuid(nameOrId.toLowerCase())) return nameOrId.toLowerCase();
  return theOne('group', nameOrId, await client.groups());
}

const MAX_NAMES = 20;

function theOne(kind: string, wanted: string, candidates: readonly Named[]): string {
  const found = candidates.filter(({ name }) => name === wanted);
  if (found.length === 1 && found[0] !== undefined) return found[0].id;
  if (found.length > 1)
    throw new UserError(
      `${found.length} ${kind}s are named "${wanted}"; give the id: ${found
        .map(({ id }) => id)
        .slice(0, MAX_NAMES)
        .join(', ')}.`,
    );
  const known = [...new Set(candidates.map(({ name }) => name))].slice(0, MAX_NAMES).join(', ');
  throw new UserError(`There is no ${kind} named "${wanted}"${known === '' ? '' : `; there are: ${known}`}.`);
}
