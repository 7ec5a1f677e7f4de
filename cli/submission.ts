import { InvalidArgumentError } from 'commander';

import { SUBMISSION_STATES, type SubmissionState } from '../contracts/states';

import { parseCount, parseId } from './arguments';
import { withClient } from './connection';
import { findEndpoint } from './lookup';
import { addCommonOptions, printFields, printJson, printTable, showTime } from './output';

import type { Command } from 'commander';

import type { CommonOptions } from './output';

interface ListOptions extends CommonOptions {
  endpoint?: string;
  state?: SubmissionState;
  limit: number;
}

function parseState(text: string): SubmissionState {
  const state = SUBMISSION_STATES.find((known) => known === text);
  if (state === undefined) throw new InvalidArgumentError(`a state is one of ${SUBMISSION_STATES.join(', ')}.`);
  return state;
}

/** `submission`: what was accepted together, one Temporal workflow each. */
export function addSubmissionCommands(program: Command): void {
  const command = program.command('submission').description('what was submitted together: one Temporal workflow each');
  addCommonOptions(command.command('list').description('list your submissions, newest first'))
    .option('--endpoint <name|id>', 'only those for this endpoint')
    .option('--state <state>', `only those that are ${SUBMISSION_STATES.join(', ')}`, parseState)
    .option('--limit <count>', 'how many at most', parseCount, 20)
    .action((options: ListOptions) => list(options));
  addCommonOptions(command.command('show').description('show a submission with the counts of its tasks'))
    .argument('<id>', 'the submission', parseId)
    .action((id: string, options: CommonOptions) => show(id, options));
}

async function list(options: ListOptions): Promise<void> {
  const submissions = await withClient(options, async (client) => {
    const endpointId = options.endpoint === undefined ? undefined : await findEndpoint(client, options.endpoint);
    return client.submissions({ endpointId, state: options.state, limit: options.limit });
  });
  if (options.json === true) return printJson({ submissions });
  printTable(
    ['ID', 'STATE', 'DONE', 'FUNCTION', 'ENDPOINT', 'SUBMITTED'],
    submissions.map((row) => [
      row.submission_id,
      row.state,
      `${row.total - row.open}/${row.total}`,
      row.function_name,
      row.endpoint_name,
      showTime(row.created_at),
    ]),
  );
}

async function show(id: string, options: CommonOptions): Promise<void> {
  const row = await withClient(options, (client) => client.submission(id));
  if (options.json === true) return printJson(row);
  const counts = Object.entries(row.counts).map(([state, count]) => `${count} ${state}`);
  printFields([
    ['submission', row.submission_id],
    ['state', row.state],
    ['tasks', `${row.total}: ${counts.join(', ')}`],
    ['function', row.function_name],
    ['endpoint', `${row.endpoint_name} (${row.endpoint_id})`],
    ['task group', row.task_group_id],
    ['submitted', showTime(row.created_at)],
    ['finished', row.finished_at === null ? 'not yet' : showTime(row.finished_at)],
    ['deadline', showTime(row.deadline)],
    ['in Temporal', row.temporal_url],
  ]);
}
