import { withClient } from './connection';
import { addCommonOptions, print, printJson, printTable } from './output';

import type { Command } from 'commander';

import type { IdentityGroup } from '../sdk/index';
import type { CommonOptions } from './output';

interface CreateOptions extends CommonOptions {
  providerGroup?: string;
}

/** `group`: identities that functions and endpoints are shared with. */
export function addGroupCommands(program: Command): void {
  const group = program.command('group').description('groups of identities, to share functions and endpoints with');
  addCommonOptions(group.command('create').description('create a group; you are its owner'))
    .argument('<name>')
    .option('--provider-group <group>', 'the users in this group of the identity provider are members')
    .action((name: string, options: CreateOptions) =>
      change(options, `Created group ${name}.`, (client) => client.createGroup(name, { providerGroup: options.providerGroup })),
    );
  addCommonOptions(group.command('add').description('add an identity to a group'))
    .argument('<group>', 'name or id')
    .argument('<identity>', 'name or id')
    .action((name: string, identity: string, options: CommonOptions) =>
      change(options, `Added ${identity} to group ${name}.`, (client) => client.addToGroup(name, identity)),
    );
  addCommonOptions(group.command('remove').description('remove an identity from a group'))
    .argument('<group>', 'name or id')
    .argument('<identity>', 'name or id')
    .action((name: string, identity: string, options: CommonOptions) =>
      change(options, `Removed ${identity} from group ${name}.`, (client) => client.removeFromGroup(name, identity)),
    );
  addCommonOptions(group.command('list').description('list the groups that you own or are in')).action((options: CommonOptions) =>
    list(options),
  );
}

async function change(
  options: CommonOptions,
  sentence: string,
  act: Parameters<typeof withClient<IdentityGroup>>[1],
): Promise<void> {
  const group = await withClient(options, act);
  if (options.json === true) printJson(group);
  else print(`${sentence} Its id is ${group.id}; members: ${group.members.join(', ') || 'none'}.`);
}

async function list(options: CommonOptions): Promise<void> {
  const groups = await withClient(options, (client) => client.groups());
  if (options.json === true) return printJson({ groups });
  printTable(
    ['NAME', 'ID', 'OWNER', 'MEMBERS'],
    groups.map((group) => [group.name, group.id, group.owner_id, group.members.join(', ')]),
  );
}
