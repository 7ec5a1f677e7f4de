import { existsSync, readFileSync } from 'node:fs';

import { isUuid } from '../contracts/ids';
import { encodeEnrolmentCode } from '../client';
import { UserError } from '../local/machine/user-error';

import { parseDuration } from './arguments';
import { findConnection, withClient } from './connection';
import { findGroup } from './lookup';
import { addCommonOptions, print, printJson, showTime } from './output';

import type { Command } from 'commander';

import type { Connection } from './connection';
import type { CommonOptions } from './output';

interface InviteOptions extends CommonOptions {
  expires?: number;
  public?: boolean;
  group?: string;
  apiUrl?: string;
}

/** `endpoint invite`: lets an agent on another machine serve an endpoint without the secret of an identity. */
export function addInviteCommand(endpoint: Command): void {
  addCommonOptions(endpoint.command('invite').description('create a one-time code for an agent on another machine'))
    .argument('<name|id>', 'your endpoint, or the name of a new one')
    .option('--expires <time>', 'how long the code works, such as 30m, 12h or 7d (default: 1h)', parseDuration)
    .option('--public', 'let everybody submit to it, if it is new')
    .option('--group <name|id>', 'let the members of this group submit to it, if it is new')
    .option('--api-url <url>', 'where the other machine reaches the service (default: API_PUBLIC_URL of the service)')
    .addHelpText(
      'after',
      '\nThe agent that enrolled before loses its rights when the code is used. See docs/endpoint-elsewhere.md.',
    )
    .action((name: string, options: InviteOptions) => invite(name, options));
}

async function invite(wanted: string, options: InviteOptions): Promise<void> {
  const id = wanted.toLowerCase();
  const isShared = options.public === true || options.group !== undefined;
  if (isUuid(id) && isShared)
    throw new UserError('Only a new endpoint is shared by an invitation; leave out --public and --group.');
  const made = await withClient(options, async (client) => {
    const groupId = options.group === undefined ? undefined : await findGroup(client, options.group);
    const target = isUuid(id) ? { endpointId: id } : { name: wanted, isPublic: options.public, groupId };
    return client.invite(target, { expiresInS: options.expires });
  });
  const { endpoint_id: endpointId, name, secret, expires_at: expiresAt, notes } = made;
  const apiUrl = (options.apiUrl ?? made.api_url).replace(/\/+$/, '');
  const authority = authorityOf(findConnection(options.dataDir), apiUrl);
  const code = encodeEnrolmentCode({ apiUrl, endpointId, name, secret, authority });
  const isClear = apiUrl.startsWith('http:') && !/^http:\/\/(localhost|127\.|\[::1\])/.test(apiUrl);
  const command = `funcx-endpoint enroll ${isClear ? '--insecure-http ' : ''}${code}`;
  if (options.json === true)
    return printJson({ id: endpointId, name, code, command, expires_at: expiresAt, api_url: apiUrl, notes });
  print(`On the other machine, where funcx-endpoint is installed, run:\n\n  ${command}\n`);
  print(`The code is for endpoint ${name} (${endpointId}). It works once, until ${showTime(expiresAt)}.`);
  for (const note of notes) print(`Note: ${note}`);
}

/** Returns the private authority of the service's certificate, if there is one. The agent then trusts no other. */
function authorityOf({ caFile }: Connection, apiUrl: string): string | undefined {
  return apiUrl.startsWith('https:') && caFile !== null && existsSync(caFile) ? readFileSync(caFile, 'utf8') : undefined;
}
