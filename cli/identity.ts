import { parseId, readSecret } from './arguments';
import { withClient } from './connection';
import { addCommonOptions, print, printFields, printJson, printTable, showTime } from './output';

import type { Command } from 'commander';

import type { CommonOptions } from './output';

interface CreateOptions extends CommonOptions {
  clientId?: string;
  secretStdin?: boolean;
  admin?: boolean;
}

/** `identity`: who may use the service. */
export function addIdentityCommands(program: Command): void {
  const identity = program.command('identity').description('who may use the service (for administrators)');
  addCommonOptions(identity.command('create').description('create an identity; its secret is shown once'))
    .argument('<name>')
    .option('--client-id <uuid>', 'the id of the identity (default: a new one)', parseId)
    .option('--secret-stdin', 'read its secret from standard input (default: a new secret)')
    .option('--admin', 'let it manage identities and endpoints of others')
    .action((name: string, options: CreateOptions) => create(name, options));
  addCommonOptions(identity.command('list').description('list all identities')).action((options: CommonOptions) => list(options));
  addCommonOptions(identity.command('revoke').description('take away its tokens and broker credentials, for good'))
    .argument('<name|id>')
    .action((name: string, options: CommonOptions) => revoke(name, options));
}

async function create(name: string, options: CreateOptions): Promise<void> {
  const made = await withClient(options, (client) =>
    client.createIdentity(name, {
      clientId: options.clientId,
      isAdmin: options.admin,
      ...(options.secretStdin === true ? { clientSecret: readSecret() } : {}),
    }),
  );
  if (options.json === true) return printJson(made);
  printFields([
    ['name', made.name],
    ['client_id', made.client_id],
    ['client_secret', made.client_secret],
  ]);
  if (options.secretStdin !== true) print('Keep the secret: it cannot be shown again.');
}

async function list(options: CommonOptions): Promise<void> {
  const identities = await withClient(options, (client) => client.identities());
  if (options.json === true) return printJson({ identities });
  printTable(
    ['NAME', 'ID', 'ROLE', 'FROM', 'CREATED', 'REVOKED'],
    identities.map((row) => [
      row.name,
      row.client_id,
      row.is_admin ? 'administrator' : 'user',
      row.issuer ?? 'here',
      showTime(row.created_at),
      row.revoked_at === null ? '' : showTime(row.revoked_at),
    ]),
  );
}

async function revoke(name: string, options: CommonOptions): Promise<void> {
  const id = await withClient(options, (client) => client.revokeIdentity(name));
  if (options.json === true) printJson({ client_id: id, revoked: true });
  else print(`Revoked ${name} (${id}).`);
}
