import { InvalidArgumentError } from 'commander';

import { submissionIdOf, taskIndexOf } from '../contracts/ids';
import { UserError } from '../local/machine/user-error';

import { parseIdStart } from './arguments';
import { withClient } from './connection';
import { findWork } from './lookup';
import { addCommonOptions, print, printJson } from './output';

import type { Command } from 'commander';

import type { CommonOptions } from './output';

const STATES = ['failed', 'expired', 'cancelled'] as const;
type Ended = (typeof STATES)[number];

interface RetryOptions extends CommonOptions {
  state?: Ended[];
}

/** `retry`: submits the failed tasks of a submission or a group again. */
export function addRetryCommand(program: Command): void {
  addCommonOptions(program.command('retry').description('submit the failed tasks of a submission or a task group again'))
    .argument('<id>', 'the submission or the task group; the first characters of its id are enough', parseIdStart)
    .option('--state <states>', `the tasks that ended as ${STATES.join(', ')} (default: failed,expired)`, parseStates)
    .addHelpText(
      'after',
      `
Submits the same functions, arguments and endpoint again, as new submissions in a new task group. What the tasks did before
they failed is done again.

Examples:
  funcx submission list --failed
  funcx retry 01a20d0e-44fc-8a94
  funcx retry 01a20d0e-44fc-8a94 --state cancelled`,
    )
    .action((id: string, options: RetryOptions) => retry(id, options));
}

function parseStates(text: string): Ended[] {
  return text.split(',').map((word) => {
    const state = STATES.find((known) => known === word.trim());
    if (state === undefined) throw new InvalidArgumentError(`a state is one of ${STATES.join(', ')}.`);
    return state;
  });
}

async function retry(wanted: string, options: RetryOptions): Promise<void> {
  const { state: states } = options;
  const retried = await withClient(options, async (client) => {
    const found = await findWork(client, wanted);
    if ('taskId' in found) {
      const whole = submissionIdOf(found.taskId);
      throw new UserError(
        `${wanted} is task ${taskIndexOf(found.taskId)} of submission ${whole}; "funcx retry ${whole}" submits all of its failed tasks again.`,
      );
    }
    return client.retry(found, states === undefined ? {} : { states });
  });
  if (options.json === true) return printJson(retried);
  if (retried.tasks === 0) return print(`Nothing to submit again: no task is ${(states ?? ['failed', 'expired']).join(' or ')}.`);
  print(
    `Submitted ${retried.tasks} ${retried.tasks === 1 ? 'task' : 'tasks'} again, as ${retried.submissions.join(', ')}.\n` +
      `Their progress: funcx watch ${retried.task_group_id ?? ''}`,
  );
}
