import { layoutOf } from '../local/machine/layout';
import { UserError } from '../local/machine/user-error';
import { FuncXError } from '../sdk';

import { parseCount, parseId } from './arguments';
import { findConnection, withClient } from './connection';
import { agentLog, findLocalAgent, forgetAgent, listLocalAgents, startAgent, stopAgent } from './local-agents';
import { findEndpoint, findFunction, findGroup } from './lookup';
import { readSettings, type AgentSettings } from './agent-settings';
import { addCommonOptions, print, printFields, printJson, printTable } from './output';

import type { Command } from 'commander';

import type { LocalAgent, StartOptions } from './local-agents';
import type { CommonOptions } from './output';

/** `endpoint`: where functions run, and the agents of this machine. */
export function addEndpointCommands(program: Command): void {
  const command = program.command('endpoint').description('endpoints, and their agents on this machine');
  addCommonOptions(command.command('list').description('list your endpoints and the agents of this machine'))
    .option('--all', 'also those that are public or shared with you')
    .action((options: CommonOptions & { all?: boolean }) => list(options));
  addCommonOptions(command.command('status').description('tell whether an endpoint is online, and its last report'))
    .argument('<name|id>')
    .action((name: string, options: CommonOptions) => status(name, options));
  addCommonOptions(command.command('start').description('start agents on this machine; returns when they are connected'))
    .argument('<name...>', 'one agent for each name; a known name keeps its id')
    .option('--id <uuid>', 'the id that a new endpoint shall have', parseId)
    .option('--public', 'let everybody submit to it; stays so until --private')
    .option('--private', 'let only yourself and its group submit to it')
    .option('--group <name|id>', 'let the members of this group submit to it; "none" takes it back')
    .option('--functions <name|id...>', 'run these functions only')
    .option('--isolate', 'run each worker in a sandbox of its own; needs bubblewrap')
    .option('--workers <count>', 'calls at the same time (default: the cores of this machine)', parseCount)
    .option('--python <path>', 'run Python functions with this Python, or environment; "default" takes it back')
    .option('--requirements <file>', 'make an environment with the packages of this file for it')
    .option('--venv', 'make an environment for this endpoint alone, for packages that you add')
    .option('--task-directories', 'run each Python call in a folder of its own, as run_in_sandbox wants it')
    .option('--no-task-directories', 'run them in one folder again')
    .addHelpText('after', '\nWhat is said of Python and of folders is remembered for the next start. See docs/packages.md.')
    .action((names: string[], options: StartCommandOptions) => start(names, options));
  addCommonOptions(command.command('stop').description('stop agents of this machine; running calls are finished'))
    .argument('<name...>')
    .action((names: string[], options: CommonOptions) => stop(names, options));
  addCommonOptions(command.command('delete').description('delete an endpoint; its open tasks fail, its agent stops'))
    .argument('<name|id>')
    .action((name: string, options: CommonOptions) => remove(name, options));
}

interface StartCommandOptions extends CommonOptions {
  id?: string;
  public?: boolean;
  private?: boolean;
  group?: string;
  functions?: string[];
  workers?: number;
  isolate?: boolean;
  python?: string;
  requirements?: string;
  venv?: boolean;
  taskDirectories?: boolean;
}

interface ListedEndpoint {
  name: string;
  id: string | null;
  status: 'online' | 'offline';
  kind: string;
  public: boolean;
  /** Of the agent on this machine. */
  pid: number | null;
  dir: string | null;
}

async function list(options: CommonOptions & { all?: boolean }): Promise<void> {
  const locals = listLocalAgents(layoutOf(options.dataDir));
  const known = await withClient(options, (client) => client.endpoints({ role: options.all === true ? 'any' : 'owner' }));
  const listed: ListedEndpoint[] = known.map((endpoint) => {
    const local = locals.find(({ id }) => id === endpoint.uuid);
    return {
      name: endpoint.name,
      id: endpoint.uuid,
      status: endpoint.status,
      kind: endpoint.kind,
      public: endpoint.public,
      pid: local?.pid ?? null,
      dir: local?.dir ?? null,
    };
  });
  // Never registered, deleted, or of another service or owner.
  for (const { name, id, pid, dir } of locals.filter((local) => !listed.some((endpoint) => endpoint.id === local.id))) {
    listed.push({ name, id, status: 'offline', kind: 'agent', public: false, pid, dir });
  }
  if (options.json === true) return printJson({ endpoints: listed });
  printTable(
    ['NAME', 'ID', 'STATUS', 'KIND', 'AGENT HERE'],
    listed.map((row) => [
      row.name,
      row.id ?? '',
      row.status,
      row.public ? `${row.kind}, public` : row.kind,
      row.dir === null ? '' : row.pid === null ? 'stopped' : `process ${row.pid}`,
    ]),
  );
}

async function status(name: string, options: CommonOptions): Promise<void> {
  const local = localOf(options, name);
  const answer = await withClient(options, async (client) => {
    const id = local?.id ?? (await findEndpoint(client, name));
    return { ...(await client.endpoint(id)), ...(await client.endpointStatus(id)) };
  });
  const settings = local === undefined ? {} : readSettings(local.dir);
  const agent = local === undefined ? null : { pid: local.pid, dir: local.dir, log: agentLog(local.dir), ...settings };
  if (options.json === true) {
    return printJson({ name: answer.name, id: answer.uuid, status: answer.status, details: answer.details, agent });
  }
  printFields([
    ['name', answer.name],
    ['id', answer.uuid],
    ['status', answer.status],
    ['kind', answer.public ? `${answer.kind}, public` : answer.kind],
    ...(agent === null ? [] : ([['agent here', agent.pid === null ? 'stopped' : `process ${agent.pid}`]] as const)),
    ...(local === undefined || local.isSystems ? [] : ([['packages', packagesLine(settings)]] as const)),
    ['last report', JSON.stringify(answer.details)],
  ]);
}

function packagesLine({ python, taskDirectories }: AgentSettings): string {
  const where = {
    path: `of ${python?.kind === 'path' ? python.path : ''}`,
    requirements: `of ${python?.kind === 'requirements' ? python.file : ''}`,
    venv: 'of an environment of its own',
    default: 'none beside what functions need (see docs/packages.md)',
  }[python?.kind ?? 'default'];
  return taskDirectories === true ? `${where}; a folder for each task` : where;
}

async function start(names: string[], options: StartCommandOptions): Promise<void> {
  if (options.public === true && options.private === true) throw new UserError('Give one of --public and --private.');
  if (options.id !== undefined && names.length > 1) throw new UserError('--id is for one endpoint; start them one by one.');
  const layout = layoutOf(options.dataDir);
  const connection = findConnection(options.dataDir);
  const wanted = await readStartOptions(options);
  const started: { agent: LocalAgent; isNew: boolean }[] = [];
  for (const name of names) {
    const one = await startAgent(layout, connection, name, wanted);
    started.push(one);
    if (options.json === true) continue;
    const what = one.isNew ? 'is connected' : 'runs already; nothing was changed';
    print(
      `Endpoint ${name} (${one.agent.id ?? 'without an id'}) ${what}: process ${one.agent.pid}, log ${agentLog(one.agent.dir)}`,
    );
  }
  if (options.json === true) {
    printJson({
      endpoints: started.map(({ agent, isNew }) => ({
        name: agent.name,
        id: agent.id,
        pid: agent.pid,
        dir: agent.dir,
        log: agentLog(agent.dir),
        started: isNew,
      })),
    });
  }
}

/** Names of groups and functions become ids here; the agent knows ids only. */
async function readStartOptions(options: StartCommandOptions): Promise<StartOptions> {
  const { id, workers, group, functions, python, requirements, venv, taskDirectories } = options;
  const settings = { python, requirements, venv, taskDirectories };
  const isPublic = options.private === true ? false : options.public;
  const isIsolated = options.isolate;
  if (group === undefined && functions === undefined) return { ...settings, id, workers, isPublic, isIsolated };
  return withClient(options, async (client) => ({
    ...settings,
    id,
    workers,
    isPublic,
    isIsolated,
    groupId: group === undefined || group === 'none' ? group : await findGroup(client, group),
    functionIds: functions && (await Promise.all(functions.map((name) => findFunction(client, name)))),
  }));
}

async function stop(names: string[], options: CommonOptions): Promise<void> {
  const agents = names.map((name) => {
    const local = localOf(options, name);
    if (local === undefined) throw new UserError(`There is no agent named ${name} on this machine; see "funcx endpoint list".`);
    return local;
  });
  const stopped = await Promise.all(
    agents.map(async (agent) => ({ name: agent.name, id: agent.id, stopped: await stopAgent(agent) })),
  );
  if (options.json === true) return printJson({ endpoints: stopped });
  for (const { name, stopped: did } of stopped) print(did ? `Stopped ${name}.` : `${name} did not run.`);
}

async function remove(name: string, options: CommonOptions): Promise<void> {
  const local = localOf(options, name);
  const id = await withClient(options, async (client) => {
    const found = local?.id ?? (await findEndpoint(client, name));
    if (local !== undefined) await stopAgent(local); // first, so that its calls are finished
    await client.deleteEndpoint(found).catch((error: unknown) => {
      // What is left of it here is removed all the same.
      if (local === undefined || !(error instanceof FuncXError && error.code === 'ENDPOINT_NOT_FOUND')) throw error;
    });
    return found;
  });
  if (local !== undefined) forgetAgent(local);
  if (options.json === true) printJson({ id, deleted: true });
  else print(`Deleted endpoint ${name === id ? id : `${name} (${id})`}.`);
}

/** The agent of this machine with this name or id. */
function localOf({ dataDir }: CommonOptions, nameOrId: string): LocalAgent | undefined {
  const layout = layoutOf(dataDir);
  return findLocalAgent(layout, nameOrId) ?? listLocalAgents(layout).find(({ id }) => id === nameOrId.toLowerCase());
}
