import { InvalidArgumentError } from 'commander';

import { TOKEN_SCOPES, type TokenScope } from '../contracts/http/tokens';

import { parseDuration } from './arguments';
import { withClient } from './connection';
import { addCommonOptions, print, printFields, printJson, printTable, showTime } from './output';

import type { Command } from 'commander';

import type { CommonOptions } from './output';

interface CreateOptions extends CommonOptions {
  scope: TokenScope[];
  expires: number;
}

interface OwnerOptions extends CommonOptions {
  identity?: string;
}

const DEFAULT_S = 30 * 86_400;

/** `token`: API tokens, which programs use in place of the secret of an identity. */
export function addTokenCommands(program: Command): void {
  const token = program.command('token').description('API tokens: for programs, with a name, scopes and an expiry time');
  addCommonOptions(token.command('create').description('create a token; it is shown once'))
    .argument('<name>', 'name of the token, to tell your tokens apart')
    .requiredOption('--scope <scopes>', `what it may be used for, separated by commas: ${TOKEN_SCOPES.join(', ')}`, parseScopes)
    .option('--expires <time>', 'when it ends, such as 12h or 90d (default: 30d)', parseDuration, DEFAULT_S)
    .action((name: string, options: CreateOptions) => create(name, options));
  addCommonOptions(token.command('list').description('list your tokens'))
    .option('--identity <name|id>', 'of another identity, for administrators')
    .action((options: OwnerOptions) => list(options));
  addCommonOptions(token.command('revoke').description('revoke a token now'))
    .argument('<name|id>')
    .option('--identity <name|id>', 'of another identity, for administrators')
    .action((name: string, options: OwnerOptions) => revoke(name, options));
}

function parseScopes(text: string): TokenScope[] {
  const scopes = text.split(',').map((one) => one.trim());
  const isScope = (one: string): one is TokenScope => (TOKEN_SCOPES as readonly string[]).includes(one);
  if (scopes.every(isScope)) return scopes;
  throw new InvalidArgumentError(`scopes are: ${TOKEN_SCOPES.join(', ')}.`);
}

async function create(name: string, options: CreateOptions): Promise<void> {
  const made = await withClient(options, (client) => client.createToken(name, options.scope, options.expires));
  if (options.json === true) return printJson(made);
  printFields([
    ['name', made.name],
    ['scopes', made.scopes.join(', ')],
    ['expires', showTime(made.expires_at)],
    ['token', made.token],
  ]);
  print('Keep the token: it cannot be shown again. Programs take it as FUNCX_TOKEN.');
}

async function list(options: OwnerOptions): Promise<void> {
  const tokens = await withClient(options, (client) => client.tokens(options.identity));
  if (options.json === true) return printJson({ tokens });
  printTable(
    ['NAME', 'ID', 'SCOPES', 'CREATED', 'EXPIRES', 'LAST USED'],
    tokens.map((row) => [
      row.name,
      row.token_id,
      row.scopes.join(', '),
      showTime(row.created_at),
      showTime(row.expires_at),
      row.last_used_at === null ? '' : showTime(row.last_used_at),
    ]),
  );
}

async function revoke(name: string, options: OwnerOptions): Promise<void> {
  const id = await withClient(options, (client) => client.revokeToken(name, options.identity));
  if (options.json === true) printJson({ token_id: id, revoked: true });
  else print(`Revoked ${name} (${id}).`);
}
