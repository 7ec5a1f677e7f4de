import { layoutOf } from '../local/machine/layout';
import { UserError } from '../local/machine/user-error';
import { FuncXError } from '../sdk/index';

import { parseCount, parseId } from './arguments';
import { findConnection, withClient } from './connection';
import { addInviteCommand } from './invite';
import { agentLog, findLocalAgent, forgetAgent, listLocalAgents, startAgent, stopAgent } from './local-agents';
import { findEndpoint, findFunction, findGroup } from './lookup';
import { readSettings, type AgentSettings } from './agent-settings';
import { addCommonOptions, failing, good, print, printFields, printJson, printTable, showDuration, showTime } from './output';

import type { Command } from 'commander';

import type { Client, EndpointState } from '../sdk/index';
import type { LocalAgent, StartOptions } from './local-agents';
import type { CommonOptions } from './output';

/** `endpoint`: where functions run, and the agents of this machine. */
export function addEndpointCommands(program: Command): void {
  const command = program.command('endpoint').description('endpoints, and their agents on this machine');
  addCommonOptions(command.command('list').description('list your endpoints and the agents of this machine'))
    .option('--all', 'also those that are public or shared with you')
    .action((options: CommonOptions & { all?: boolean }) => list(options));
  addCommonOptions(command.command('status').description('show whether an endpoint is online, and its last report'))
    .argument('<name|id>')
    .action((name: string, options: CommonOptions) => status(name, options));
  addCommonOptions(command.command('start').description('start agents on this machine; returns when they are connected'))
    .argument('<name...>', 'one agent for each name; a known name keeps its id')
    .option('--id <uuid>', 'the id for a new endpoint', parseId)
    .option('--public', 'let everybody submit to it; stays so until --private')
    .option('--private', 'let only yourself and its group submit to it')
    .option('--group <name|id>', 'let the members of this group submit to it; "none" removes it')
    .option('--functions <name|id...>', 'run these functions only')
    .option('--isolate', 'run each worker in a sandbox of its own; needs bubblewrap')
    .option('--no-isolate', 'run workers without such sandboxes again')
    .option('--workers <count>', 'calls at the same time (default: the cores of this machine)', parseCount)
    .option('--python <path>', 'run Python functions with this Python, or environment; "default" undoes this')
    .option('--requirements <file>', 'create an environment for it with the packages of this file')
    .option('--venv', 'create an environment for this endpoint only, to which you add packages')
    .option('--task-directories', 'run each Python call in a folder of its own, as run_in_sandbox requires')
    .option('--no-task-directories', 'run them in one folder again')
    .addHelpText(
      'after',
      '\nThe next start remembers all of these options except --id. See docs/command-line.md and docs/packages.md.',
    )
    .action((names: string[], options: StartCommandOptions) => start(names, options));
  addInviteCommand(command);
  addCommonOptions(
    command
      .command('stop')
      .description('stop agents of this machine; running calls have 30 s to end, longer ones run again later'),
  )
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
  pid: number | null;
  dir: string | null;
}

async function list(options: CommonOptions & { all?: boolean }): Promise<void> {
  const locals = listLocalAgents(layoutOf(options.dataDir));
  const { known, others } = await withClient(options, async (client) => {
    const own = await client.endpoints({ role: options.all === true ? 'any' : 'owner' });
    const unlisted = locals.filter(({ id }) => !own.some(({ uuid }) => uuid === id));
    return { known: own, others: new Map(await Promise.all(unlisted.map((local) => presenceOf(client, local)))) };
  });
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
  // Agents whose endpoint is not registered yet, is deleted, or belongs to another service or owner.
  for (const { name, id, pid, dir } of locals.filter((local) => !listed.some((endpoint) => endpoint.id === local.id))) {
    const seen = others.get(dir);
    listed.push({
      name,
      id,
      status: seen?.status ?? 'offline',
      kind: seen?.kind ?? 'agent',
      public: seen?.public ?? false,
      pid,
      dir,
    });
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

/** An agent of this machine may serve an endpoint of another owner. The state is undefined if this user may not see it. */
async function presenceOf(client: Client, { id, dir }: LocalAgent): Promise<[string, EndpointState | undefined]> {
  if (id === null) return [dir, undefined];
  const state = await client.endpointState(id).catch((error: unknown) => {
    if (error instanceof FuncXError && error.code === 'ENDPOINT_NOT_FOUND') return undefined;
    throw error;
  });
  return [dir, state];
}

async function status(name: string, options: CommonOptions): Promise<void> {
  const local = localOf(options, name);
  const { report, state } = await withClient(options, async (client) => {
    const id = local?.id ?? (await findEndpoint(client, name));
    return { report: await client.endpointStatus(id), state: await client.endpointState(id) };
  });
  const settings = local === undefined ? {} : readSettings(local.dir);
  const agent = local === undefined ? null : { pid: local.pid, dir: local.dir, log: agentLog(local.dir), ...settings };
  if (options.json === true) {
    const { endpoint_id: id, ...rest } = state;
    return printJson({ ...rest, id, details: report.details, agent });
  }
  const isOwn = local !== undefined && !local.isSystems;
  const packages: Field[] = isOwn ? [['packages', packagesLine(settings)]] : [];
  printFields([...statusFields(state, report.details, agent), ...packages], paintStatus);
  const isStopped = state.status === 'offline' && local?.isSystems === false && local.pid === null;
  const isUnserved = state.status === 'offline' && local === undefined && state.since === null && state.kind === 'agent';
  if (isUnserved) print(`\nLet an agent on another machine serve it: funcx endpoint invite ${state.name}`);
  if (isStopped) print(`\nStart its agent again: funcx endpoint start ${state.name}`);
}

type Field = readonly [string, string];

function statusFields(
  state: EndpointState,
  details: Record<string, unknown>,
  agent: { pid: number | null; log: string } | null,
): Field[] {
  const { status: presence, since, waiting_since: oldest } = state;
  const ago = since === null ? '' : ` since ${showTime(since)} (${showDuration(Date.now() - Date.parse(since))})`;
  const whose = state.waiting_owners.length === 0 ? '' : `, of ${state.waiting_owners.join(', ')}`;
  const waits =
    state.waiting === 0
      ? 'nothing'
      : `${state.waiting} tasks${whose}${oldest === null ? '' : `, the oldest since ${showTime(oldest)}`}`;
  const fact = (label: string, value: unknown): Field[] =>
    typeof value === 'string' || typeof value === 'number' ? [[label, String(value)]] : [];
  const idle = typeof details.idle_workers === 'number' ? `, ${details.idle_workers} idle at the last report` : '';
  return [
    ['name', state.name],
    ['id', state.endpoint_id],
    ['status', presence === 'offline' && since === null ? 'offline: no agent of it was ever online' : presence + ago],
    ['waiting', waits],
    ['in hand', `${state.in_hand} of at most ${state.window} tasks`],
    ['workers', `${state.workers}${idle}`],
    ['kind', state.public ? `${state.kind}, public` : state.kind],
    ['owner', state.owner_name],
    ...(state.last_heartbeat_at === null ? [] : [['last heard', showTime(state.last_heartbeat_at)] as const]),
    ...fact('host', details.hostname),
    ...fact('version', details.agent_version),
    ...(agent === null
      ? []
      : [['agent here', agent.pid === null ? 'stopped' : `process ${agent.pid}`] as const, ['log', agent.log] as const]),
    ['in Temporal', state.temporal_url],
  ];
}

const paintStatus = (value: string, name: string): string =>
  name === 'status' ? value.replace(/^online/, good).replace(/^offline/, failing) : value;

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
  if (connection.token !== undefined)
    throw new UserError(
      'An agent outlives a login: start it with the id and secret of an identity in FUNCX_CLIENT_ID and FUNCX_CLIENT_SECRET.',
    );
  const wanted = await readStartOptions(options);
  const started: { agent: LocalAgent; isNew: boolean }[] = [];
  for (const name of names) {
    const one = await startAgent(layout, connection, name, wanted);
    started.push(one);
    if (options.json === true) continue;
    const what = one.isNew ? 'is connected' : 'is already running; nothing was changed';
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

/** Replaces the names of groups and functions by ids, because the agent accepts only ids. */
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
      // The service does not have the endpoint any more. Its files on this machine are still removed.
      if (local === undefined || !(error instanceof FuncXError && error.code === 'ENDPOINT_NOT_FOUND')) throw error;
    });
    return found;
  });
  if (local !== undefined) forgetAgent(local);
  if (options.json === true) printJson({ id, deleted: true });
  else print(`Deleted endpoint ${name === id ? id : `${name} (${id})`}.`);
}

function localOf({ dataDir }: CommonOptions, nameOrId: string): LocalAgent | undefined {
  const layout = layoutOf(dataDir);
  return findLocalAgent(layout, nameOrId) ?? listLocalAgents(layout).find(({ id }) => id === nameOrId.toLowerCase());
}
