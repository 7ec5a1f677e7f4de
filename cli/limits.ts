import { withClient } from './connection';
import { addCommonOptions, printJson, printTable } from './output';

import type { Command } from 'commander';

import type { CommonOptions } from './output';

/** `limits` and `audit`: how much one may have, and who did what. */
export function addLimitCommands(program: Command): void {
  addCommonOptions(
    program.command('limits').description('show how much of everything you may have, and how much you have'),
  ).action((options: CommonOptions) => showLimits(options));
  addCommonOptions(program.command('audit').description('list who changed what and what was refused; for administrators'))
    .option('--identity <id>', 'of this identity only')
    .option('--refused', 'refused requests only')
    .option('--limit <count>', 'at most this many', '50')
    .action((options: AuditOptions) => showAudit(options));
}

interface AuditOptions extends CommonOptions {
  identity?: string;
  refused?: boolean;
  limit: string;
}

async function showLimits(options: CommonOptions): Promise<void> {
  const limits = await withClient(options, (client) => client.limits());
  if (options.json === true) return printJson({ limits });
  printTable(
    ['LIMIT', 'USED', 'OF'],
    limits.map(({ name, used, limit }) => [name.replaceAll('_', ' '), String(used), String(limit)]),
  );
}

async function showAudit(options: AuditOptions): Promise<void> {
  const entries = await withClient(options, (client) =>
    client.auditEntries({
      identity: options.identity,
      outcome: options.refused === true ? 'refused' : undefined,
      limit: options.limit,
    }),
  );
  if (options.json === true) return printJson({ entries });
  printTable(
    ['TIME', 'IDENTITY', 'FROM', 'ACTION', 'OBJECT', 'OUTCOME'],
    entries.map(({ at, name, address, action, objects, outcome, status, code }) => [
      at,
      name ?? 'unknown',
      address ?? '',
      action,
      Object.values(objects).join(' '),
      outcome === 'allowed' ? outcome : `${outcome}: ${code ?? status}`,
    ]),
  );
}
