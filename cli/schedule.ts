import { resolveOptions, ServiceHttp } from '../client';
import type { ScheduleDocument } from '../contracts/http/schedules';
import { isUuid } from '../contracts/ids';
import { OVERLAP_POLICIES } from '../contracts/schedules';
import { UserError } from '../local/machine/user-error';

import { parseDuration, parseJsonArray, parseJsonObject } from './arguments';
import { clientOptions, withClient } from './connection';
import { readInput } from './flow';
import { withFlows } from './flows-client';
import { findEndpoint, findFunction } from './lookup';
import { addCommonOptions, print, printJson, printTable, showTime } from './output';

import type { Command } from 'commander';

import type { HttpRequest } from '../client';
import type { CommonOptions } from './output';

/** `schedule`: runs of flows and calls of functions at certain times. */
export function addScheduleCommands(program: Command): void {
  const command = program.command('schedule').description('run flows and call functions at certain times');
  addCommonOptions(command.command('create').description('create a schedule for a flow, or for a function and an endpoint'))
    .argument('<name>')
    .option('--flow <id|title>', 'the flow to run')
    .option('--input <json|@file>', 'the input of the flow', '{}')
    .option('--function <id|name>', 'the function to call')
    .option('--endpoint <id|name>', 'where to call it')
    .option('--args <json>', 'positional arguments of the function, a JSON array', parseJsonArray, [])
    .option('--kwargs <json>', 'keyword arguments of the function, a JSON object', parseJsonObject, {})
    .option('--cron <expression...>', 'when: five fields as in crontab, such as "0 6 * * 1-5"')
    .option('--every <duration>', 'when: such as 30s, 10m, 2h, 1d', parseDuration)
    .option('--time-zone <name>', 'time zone of the cron expressions', 'UTC')
    .option('--overlap <policy>', `what to do while the previous run continues: ${OVERLAP_POLICIES.join(', ')}`, 'skip')
    .option('--paused', 'create it paused')
    .action((name: string, options: CreateOptions) => create(name, options));
  addCommonOptions(command.command('list').description('list your schedules and when each is due next')).action(
    (options: CommonOptions) => list(options),
  );
  addCommonOptions(command.command('pause').description('pause a schedule'))
    .argument('<name|id>')
    .option('--resume', 'resume it instead')
    .action((name: string, options: CommonOptions & { resume?: boolean }) =>
      change(
        name,
        options,
        { path: 'pause', body: { paused: options.resume !== true } },
        options.resume === true ? 'is resumed' : 'is paused',
      ),
    );
  addCommonOptions(command.command('trigger').description('start a run now'))
    .argument('<name|id>')
    .action((name: string, options: CommonOptions) => change(name, options, { path: 'trigger' }, 'starts a run'));
  addCommonOptions(command.command('delete').description('delete a schedule; its runs continue and are kept'))
    .argument('<name|id>')
    .action((name: string, options: CommonOptions) => change(name, options, {}, 'is deleted'));
}

interface CreateOptions extends CommonOptions {
  flow?: string;
  input: string;
  function?: string;
  endpoint?: string;
  args: unknown[];
  kwargs: Record<string, unknown>;
  cron?: string[];
  every?: number;
  timeZone: string;
  overlap: string;
  paused?: boolean;
}

async function request(dataDir: string, given: HttpRequest): Promise<unknown> {
  const http = new ServiceHttp(resolveOptions(clientOptions(dataDir)));
  try {
    return await http.request(given);
  } finally {
    http.close();
  }
}

async function create(name: string, options: CreateOptions): Promise<void> {
  if (options.cron === undefined && options.every === undefined)
    throw new UserError('Say when: --cron "0 6 * * *", or --every 10m.');
  const body = {
    name,
    target: await targetOf(options),
    cron: options.cron ?? [],
    every_s: options.every,
    time_zone: options.timeZone,
    overlap: options.overlap,
    paused: options.paused === true,
  };
  const made = (await request(options.dataDir, { method: 'POST', path: '/v1/schedules', body })) as ScheduleDocument;
  if (options.json === true) return printJson(made);
  const next = made.next_times[0];
  print(
    `Schedule ${made.name} (${made.schedule_id}) is due ${next === undefined ? 'at no time yet' : `next at ${showTime(next)}`}.`,
  );
}

async function targetOf(options: CreateOptions): Promise<object> {
  const { flow, function: fn, endpoint } = options;
  if (flow !== undefined && fn === undefined) {
    const { id } = await withFlows(options, (flows) => flows.findFlow(flow));
    return { flow: id, input: readInput(options.input) };
  }
  if (flow !== undefined || fn === undefined || endpoint === undefined)
    throw new UserError('Give --flow, or --function and --endpoint.');
  return withClient(options, async (client) => ({
    function: await findFunction(client, fn),
    endpoint: await findEndpoint(client, endpoint),
    args: options.args,
    kwargs: options.kwargs,
  }));
}

async function all(dataDir: string): Promise<ScheduleDocument[]> {
  const { schedules } = (await request(dataDir, { method: 'GET', path: '/v1/schedules' })) as { schedules: ScheduleDocument[] };
  return schedules;
}

async function list(options: CommonOptions): Promise<void> {
  const schedules = await all(options.dataDir);
  if (options.json === true) return printJson({ schedules });
  printTable(
    ['NAME', 'SCHEDULE', 'WHEN', 'NEXT', 'FLOW'],
    schedules.map((one) => [one.name, one.schedule_id, whenOf(one), nextOf(one), one.flow_title]),
  );
}

function whenOf({ cron, every_s: every, time_zone: zone }: ScheduleDocument): string {
  return [...cron.map((one) => `${one} ${zone}`), ...(every === null ? [] : [`every ${every} s`])].join(', ');
}

function nextOf({ paused, note, next_times: times }: ScheduleDocument): string {
  if (paused) return `paused${note ? `: ${note}` : ''}`;
  return times[0] === undefined ? 'never' : showTime(times[0]);
}

async function change(
  name: string,
  options: CommonOptions,
  act: { path?: string; body?: object },
  sentence: string,
): Promise<void> {
  const found = isUuid(name.toLowerCase())
    ? name.toLowerCase()
    : (await all(options.dataDir)).find((one) => one.name === name)?.schedule_id;
  if (found === undefined)
    throw new UserError(`You have no schedule with the name "${name}"; "funcx schedule list" shows yours.`);
  const path = `/v1/schedules/${found}${act.path === undefined ? '' : `/${act.path}`}`;
  const method = act.path === undefined ? 'DELETE' : 'POST';
  const answer = await request(options.dataDir, { method, path, body: act.body });
  if (options.json === true) return printJson(answer);
  print(`Schedule ${name} ${sentence}.`);
}
