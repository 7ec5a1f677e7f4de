import { BUFFER, unpackBuffers } from '../contracts/packing';

import { parseCount, parsePositive } from './arguments';
import { withClient } from './connection';
import { readFunction } from './function-source';
import { findFunction, findGroup } from './lookup';
import { addCommonOptions, print, printFields, printJson, printTable, showTime } from './output';

import type { Command } from 'commander';

import type { CommonOptions } from './output';

const SOURCES = [BUFFER.pythonSource, BUFFER.javascriptSource, BUFFER.shell];

interface RegisterOptions extends CommonOptions {
  description?: string;
  public?: boolean;
  group?: string;
  retries?: number;
  walltime?: number;
}

/** `function`: registered code. */
export function addFunctionCommands(program: Command): void {
  const command = program.command('function').description('registered functions');
  addCommonOptions(command.command('register').description('register a function of a file; prints its id'))
    .argument('<FILE[:NAME]>', 'a .py, .js or .sh file, and which function of it')
    .option('--description <text>', 'what it does')
    .option('--public', 'let everybody call it')
    .option('--group <name|id>', 'let the members of this group call it')
    .option('--retries <attempts>', 'attempts in all when it fails', parseCount)
    .option('--walltime <seconds>', 'run time limit of one attempt', parsePositive)
    .action((reference: string, options: RegisterOptions) => register(reference, options));
  addCommonOptions(command.command('list').description('list your functions, newest first'))
    .option('--name <name>', 'only those of this name')
    .action((options: CommonOptions & { name?: string }) => list(options));
  addCommonOptions(command.command('show').description('show a function with its code'))
    .argument('<name|id>')
    .action((name: string, options: CommonOptions) => show(name, options));
  addCommonOptions(command.command('delete').description('delete a function; accepted tasks of it still run'))
    .argument('<name|id>')
    .action((name: string, options: CommonOptions) => remove(name, options));
}

async function register(reference: string, options: RegisterOptions): Promise<void> {
  const fn = readFunction(reference);
  const id = await withClient(options, async (client) =>
    client.registerFunction(fn, {
      description: options.description,
      public: options.public,
      groupId: options.group === undefined ? undefined : await findGroup(client, options.group),
      policy: { retries: options.retries, walltimeS: options.walltime },
    }),
  );
  if (options.json === true) printJson({ function_id: id, name: fn.name, language: fn.language });
  else print(id);
}

async function list(options: CommonOptions & { name?: string }): Promise<void> {
  const functions = await withClient(options, (client) => client.functions({ name: options.name }));
  if (options.json === true) return printJson({ functions });
  printTable(
    ['NAME', 'ID', 'SHARED WITH', 'REGISTERED'],
    functions.map((fn) => [
      fn.function_name,
      fn.function_uuid,
      fn.public ? 'everybody' : fn.group === null ? 'nobody' : `group ${fn.group}`,
      showTime(fn.created_at),
    ]),
  );
}

async function show(name: string, options: CommonOptions): Promise<void> {
  const fn = await withClient(options, async (client) => client.function(await findFunction(client, name)));
  if (options.json === true) return printJson(fn);
  printFields([
    ['name', fn.function_name],
    ['id', fn.function_uuid],
    ['owner', fn.owner_id],
    ...(fn.description === null ? [] : [['description', fn.description] as const]),
    ['registered', showTime(fn.created_at)],
  ]);
  print(`\n${sourceOf(fn.function_code)}`);
}

/** Returns the source within the packed code, or a sentence if the code is serialized. */
function sourceOf(packed: string): string {
  const [buffer] = unpackBuffers(packed);
  const isSource = SOURCES.some((identifier) => identifier === buffer?.identifier);
  if (buffer === undefined || !isSource)
    return `The code is serialized by the client (${packed.length} characters); --json prints it.`;
  return buffer.body.slice(buffer.body.indexOf(':') + 1);
}

async function remove(name: string, options: CommonOptions): Promise<void> {
  const id = await withClient(options, async (client) => {
    const found = await findFunction(client, name);
    await client.deleteFunction(found);
    return found;
  });
  if (options.json === true) printJson({ function_id: id, deleted: true });
  else print(`Deleted function ${id}.`);
}
