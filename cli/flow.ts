import { UserError } from '../local/machine/user-error';

import { parseId, parsePositive } from './arguments';
import { readFlowFile, readText, type FlowFile } from './flow-file';
import { flowSvg } from './flow-graph';
import { createRunView, drawRun, followRun, isOver } from './flow-view';
import { withFlows, type FlowDocument, type FlowsClient, type RunDocument } from './flows-client';
import { addCommonOptions, print, printFields, printJson, printTable, showTime } from './output';

import type { Command } from 'commander';

import type { CommonOptions } from './output';

/** `flow`: pipelines written as data, in the language of Globus Flows. */
export function addFlowCommands(program: Command): void {
  const command = program.command('flow').description('flows: pipelines as data, in the language of Globus Flows');
  addCommonOptions(command.command('validate').description('check a flow in a YAML or JSON file; needs no service'))
    .argument('<file>', 'a definition, or an object with definition, title and input_schema')
    .action((file: string, options: CommonOptions) => validate(file, options));
  addCommonOptions(command.command('deploy').description('create the flow of a file, or update your flow with its title'))
    .argument('<file>')
    .option('--title <title>', 'title of the flow (default: the title in the file, or the name of the file)')
    .option('--flow <id>', 'update this flow', parseId)
    .action((file: string, options: DeployOptions) => withFlows(options, (flows) => deploy(flows, file, options)));
  addCommonOptions(command.command('run').description('start a run and show its steps until its end'))
    .argument('<flow>', 'id or title')
    .option('--input <json|@file>', 'the input: JSON, or @ and a JSON file', '{}')
    .option('--label <text>', 'label of the run in lists')
    .option('--detach', 'print the id of the run and return')
    .option('--timeout <seconds>', 'stop waiting after this time; the run continues', parsePositive)
    .action((flow: string, options: RunOptions) => withFlows(options, (flows) => run(flows, flow, options)));
  addCommonOptions(command.command('list').description('list flows, or runs'))
    .option('--runs', 'list the newest runs instead')
    .option('--flow <id>', 'runs of this flow', parseId)
    .action((options: ListOptions) => withFlows(options, (flows) => list(flows, options)));
  addCommonOptions(command.command('show').description('show a flow, or a run with its steps'))
    .argument('<flow|run>', 'id of either, or title of a flow')
    .option('--svg', 'print the graph of its definition as SVG')
    .action((id: string, options: CommonOptions & { svg?: boolean }) => withFlows(options, (flows) => show(flows, id, options)));
  addCommonOptions(command.command('cancel').description('cancel a run and what it has running'))
    .argument('<run>', 'its id', parseId)
    .action((id: string, options: CommonOptions) => withFlows(options, (flows) => cancel(flows, id, options)));
  addCommonOptions(command.command('resume').description('continue a failed run from the step that failed'))
    .argument('<run>', 'its id', parseId)
    .option('--detach', 'return when it runs')
    .option('--timeout <seconds>', 'stop waiting after this time; the run continues', parsePositive)
    .action((id: string, options: WaitOptions) => withFlows(options, (flows) => resume(flows, id, options)));
}

interface DeployOptions extends CommonOptions {
  title?: string;
  flow?: string;
}
interface WaitOptions extends CommonOptions {
  detach?: boolean;
  timeout?: number;
}
interface RunOptions extends WaitOptions {
  input: string;
  label?: string;
}
interface ListOptions extends CommonOptions {
  runs?: boolean;
  flow?: string;
}

/** The exit code that shells report for a program that Ctrl-C ended. */
const INTERRUPTED = 130;

function validate(file: string, options: CommonOptions): void {
  const { problems, notPortable } = readFlowFile(file);
  if (options.json === true) printJson({ valid: problems.length === 0, problems, not_portable: notPortable });
  else if (problems.length === 0) {
    print(`${file} is a valid flow.`);
    for (const line of notPortable) print(`${line} (not portable to the hosted service)`);
  } else process.stderr.write(`${problems.join('\n')}\n`);
  if (problems.length > 0) process.exitCode = 1;
}

function requireGood(file: string, { problems }: FlowFile): void {
  if (problems.length > 0) throw new UserError(`${file} was not deployed:\n${problems.join('\n')}`);
}

async function deploy(flows: FlowsClient, file: string, options: DeployOptions): Promise<void> {
  const flow = readFlowFile(file);
  requireGood(file, flow);
  const title = options.title ?? flow.title;
  const body = { ...flow.extra, title, definition: flow.definition, input_schema: flow.inputSchema };
  const known =
    options.flow === undefined
      ? (await flows.flows({ filter_roles: 'flow_owner', filter_title: title })).filter((one) => one.title === title)
      : [];
  if (known.length > 1)
    throw new UserError(
      `You own ${known.length} flows with the title "${title}"; name one by --flow: ${known.map(({ id }) => id).join(', ')}.`,
    );
  const id = options.flow ?? known[0]?.id;
  const made = id === undefined ? await flows.create(body) : await flows.update(id, body);
  if (options.json === true) return printJson(made);
  print(`${id === undefined ? 'Created' : 'Updated'} flow ${made.id} "${made.title}".`);
}

async function run(flows: FlowsClient, nameOrId: string, options: RunOptions): Promise<void> {
  const flow = await flows.findFlow(nameOrId);
  const started = await flows.start(flow.id, {
    body: readInput(options.input),
    label: options.label,
  });
  await finish(flows, started, options);
}

export function readInput(text: string): Record<string, unknown> {
  const isFile = text.startsWith('@');
  let value: unknown;
  try {
    value = JSON.parse(isFile ? readText(text.slice(1)) : text);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`The input is not JSON: ${error instanceof Error ? error.message : String(error)}.`);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new UserError('The input of a flow is a JSON object, such as {"n": 1}.');
}

async function resume(flows: FlowsClient, id: string, options: WaitOptions): Promise<void> {
  await finish(flows, await flows.resume(await flows.run(id)), options);
}

/** Shows the steps of a run until its end, then its output; the exit code is 1 when it failed. */
async function finish(flows: FlowsClient, started: RunDocument, options: WaitOptions): Promise<void> {
  const id = started.run_id;
  if (options.detach === true) return options.json === true ? printJson(started) : print(id);
  const goesOn = `Run ${id} continues: "funcx flow show ${id}" shows it, "funcx flow cancel ${id}" cancels it.`;
  process.once('SIGINT', () => {
    process.stderr.write(`\n${goesOn}\n`);
    process.exit(INTERRUPTED);
  });
  const signal = options.timeout === undefined ? undefined : AbortSignal.timeout(options.timeout * 1_000);
  const over = await followRun(flows, id, createRunView(), signal);
  if (!isOver(over)) throw new UserError(`The run did not end within ${options.timeout} s. ${goesOn}`);
  if (options.json === true) printJson(over);
  else if (over.status === 'SUCCEEDED') print(JSON.stringify(over.details.output ?? null, null, 2));
  else process.stderr.write(`${failureOf(over)}\n`);
  if (over.status !== 'SUCCEEDED') process.exitCode = 1;
}

function failureOf({ run_id: id, details }: RunDocument): string {
  const { code, description, state_name: state, error, cause } = details;
  const where = typeof state === 'string' ? ` in state ${state}` : '';
  const why = [error, cause]
    .filter((part) => part !== undefined && part !== null)
    .map((part) => (typeof part === 'string' ? part : JSON.stringify(part)));
  return `Run ${id} ended with ${String(code)}${where}: ${String(description)}${why.length > 0 ? `\n${why.join(': ')}` : ''}\n"funcx flow resume ${id}" continues from there.`;
}

async function list(flows: FlowsClient, options: ListOptions): Promise<void> {
  if (options.runs === true || options.flow !== undefined) {
    const runs = await flows.runs({ orderby: 'start_time DESC', ...(options.flow ? { filter_flow_id: options.flow } : {}) });
    if (options.json === true) return printJson({ runs });
    return printTable(
      ['RUN', 'STATUS', 'STARTED', 'FLOW', 'LABEL'],
      runs.map((one) => [one.run_id, one.status, showTime(one.start_time), one.flow_title, one.label]),
    );
  }
  const all = await flows.flows({ orderby: 'updated_at DESC' });
  if (options.json === true) return printJson({ flows: all });
  printTable(
    ['FLOW', 'ROLE', 'UPDATED', 'TITLE'],
    all.map((one) => [one.id, one.user_role.replace('flow_', ''), showTime(one.updated_at), one.title]),
  );
}

async function show(flows: FlowsClient, id: string, options: CommonOptions & { svg?: boolean }): Promise<void> {
  const found = await findEither(flows, id);
  if (options.svg === true) {
    const [definition, title] =
      'run' in found
        ? [await flows.definitionOf(found.run.run_id), found.run.flow_title]
        : [found.flow.definition, found.flow.title];
    return print(flowSvg(definition, title));
  }
  if (options.json === true) return printJson('run' in found ? found.run : found.flow);
  if ('flow' in found) return showFlow(found.flow);
  const stop = AbortSignal.abort(); // read the run once
  await followRun(flows, found.run.run_id, (run, steps) => print(drawRun(run, steps, Date.now()).join('\n')), stop);
  if (found.run.status === 'FAILED') print(failureOf(found.run));
}

async function findEither(flows: FlowsClient, id: string): Promise<{ flow: FlowDocument } | { run: RunDocument }> {
  try {
    return { run: await flows.run(id) };
  } catch (error) {
    if ((error as { status?: number }).status !== 404) throw error;
  }
  return { flow: await flows.findFlow(id) };
}

function showFlow(flow: FlowDocument): void {
  const people = (list: string[]): string => list.join(', ') || 'nobody else';
  const states = Object.entries((flow.definition.States ?? {}) as Record<string, { Type?: string }>);
  printFields([
    ['Flow', flow.id],
    ['Title', flow.title],
    ['Description', flow.description || flow.subtitle],
    ['Owner', flow.flow_owner],
    ['Started by', people(flow.flow_starters)],
    ['Seen by', people(flow.flow_viewers)],
    ['Updated', showTime(flow.updated_at)],
    ['States', states.map(([name, { Type: type }]) => `${name} (${type ?? ''})`).join(', ')],
  ]);
}

async function cancel(flows: FlowsClient, id: string, options: CommonOptions): Promise<void> {
  const cancelled = await flows.cancel(id);
  if (options.json === true) return printJson(cancelled);
  print(isOver(cancelled) ? `Run ${id} had ended with ${cancelled.status}.` : `Run ${id} is being cancelled.`);
}
