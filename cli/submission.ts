import { InvalidArgumentError } from 'commander';

import { SUBMISSION_STATES, type SubmissionState } from '../contracts/states';

import { parseCount, parseIdStart } from './arguments';
import { withClient } from './connection';
import { findEndpoint, findSubmission } from './lookup';
import { addCommonOptions, failing, good, print, printFields, printJson, printTable, showTime } from './output';

import type { Command } from 'commander';

import type { SubmissionSummary } from '../sdk/index';
import type { CommonOptions } from './output';

interface ListOptions extends CommonOptions {
  endpoint?: string;
  group?: string;
  state?: SubmissionState;
  failed?: boolean;
  open?: boolean;
  all?: boolean;
  limit: number;
}

function parseState(text: string): SubmissionState {
  const state = SUBMISSION_STATES.find((known) => known === text);
  if (state === undefined) throw new InvalidArgumentError(`a state is one of ${SUBMISSION_STATES.join(', ')}.`);
  return state;
}

/** `submission`: tasks that were accepted together. Each submission is one Temporal workflow. */
export function addSubmissionCommands(program: Command): void {
  const command = program.command('submission').description('tasks that were submitted together: one Temporal workflow each');
  addCommonOptions(command.command('list').description('list your submissions, newest first'))
    .option('--endpoint <name|id>', 'only those for this endpoint')
    .option('--group <id>', 'only those of this task group')
    .option('--state <state>', `only those that are ${SUBMISSION_STATES.join(', ')}`, parseState)
    .option('--failed', 'only those with failed or expired tasks')
    .option('--open', 'only those with tasks that have no answer yet')
    .option('--all', 'those of everybody (for administrators)')
    .option('--limit <count>', 'how many at most', parseCount, 20)
    .action((options: ListOptions) => list(options));
  addCommonOptions(command.command('show').description('show a submission with the counts of its tasks'))
    .argument('<id>', 'the submission; the first characters of its id are enough', parseIdStart)
    .action((id: string, options: CommonOptions) => show(id, options));
}

async function list(options: ListOptions): Promise<void> {
  const { group, state, failed, open, all, limit } = options;
  const submissions = await withClient(options, async (client) => {
    const endpointId = options.endpoint === undefined ? undefined : await findEndpoint(client, options.endpoint);
    return client.submissions({ endpointId, taskGroupId: group, state, failed, open, all, limit });
  });
  if (options.json === true) return printJson({ submissions });
  if (submissions.length === 0) return print('There are no such submissions.');
  const owner = all === true ? ['OWNER'] : [];
  printTable(
    ['ID', 'STATE', 'OK', ...owner, 'FUNCTION', 'ENDPOINT', 'SUBMITTED'],
    submissions.map((row) => [
      row.submission_id,
      stateOf(row),
      `${row.total - row.open - failuresOf(row) - row.cancelled}/${row.total}`,
      ...(all === true ? [row.owner_name] : []),
      row.function_name,
      row.endpoint_name,
      showTime(row.created_at),
    ]),
    (cell, column) => (column === 1 ? paintState(cell) : cell),
  );
}

type Ended = Pick<SubmissionSummary, 'state' | 'failed' | 'expired' | 'cancelled'>;

const failuresOf = ({ failed, expired }: Ended): number => failed + expired;

/** The state with the numbers of failed and cancelled tasks: `done, 6 failed`. */
function stateOf(row: Ended): string {
  const failed = failuresOf(row);
  return [
    row.state,
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(row.cancelled > 0 ? [`${row.cancelled} cancelled`] : []),
  ].join(', ');
}

function paintState(text: string): string {
  if (/failed|expired|cancelled/.test(text)) return failing(text);
  return text === 'done' ? good(text) : text;
}

async function show(wanted: string, options: CommonOptions): Promise<void> {
  const row = await withClient(options, async (client) => client.submission(await findSubmission(client, wanted)));
  if (options.json === true) return printJson(row);
  const counts = Object.entries(row.counts).map(([state, count]) => `${count} ${state}`);
  printFields([
    ['submission', row.submission_id],
    ['state', paintState(stateOf(row))],
    ['tasks', `${row.total}: ${counts.join(', ')}`],
    ['function', row.function_name],
    ['endpoint', `${row.endpoint_name} (${row.endpoint_id})`],
    ['owner', row.owner_name],
    ['task group', row.task_group_id],
    ['submitted', showTime(row.created_at)],
    ['finished', row.finished_at === null ? 'not yet' : showTime(row.finished_at)],
    ['deadline', showTime(row.deadline)],
    ['in Temporal', row.temporal_url],
  ]);
  if (failuresOf(row) === 0) return;
  print(
    `\nThe failures: funcx task list --submission ${row.submission_id} --state failed,expired\n` +
      `Again:        funcx retry ${row.submission_id}`,
  );
}
