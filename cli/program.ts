import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { Command } from 'commander';

import { addLocalCommands } from '../local/commands';

import { REPOSITORY } from '../local/machine/layout';

import { addCompletionCommands } from './completion';
import { addDeadLetterCommands } from './dead-letters';
import { addConnectCommand } from './connect';
import { addEndpointCommands } from './endpoint';
import { addEnvCommands } from './env';
import { addFlowCommands } from './flow';
import { addFunctionCommands } from './function';
import { addGroupCommands } from './group';
import { addIdentityCommands } from './identity';
import { addLimitCommands } from './limits';
import { addLoginCommands } from './login';
import { addPipelineCommands } from './pipeline';
import { addRetryCommand } from './retry';
import { addRunCommand } from './run';
import { addScheduleCommands } from './schedule';
import { addSubmissionCommands } from './submission';
import { addTaskCommands } from './task';
import { addLogsCommand } from './task-output';
import { addTokenCommands } from './token';
import { addWatchCommand } from './watch';

export function createProgram(): Command {
  const program = new Command('funcx')
    .description('funcX on Temporal: run functions on endpoints')
    .version(readVersion(), '--version', 'print the version')
    // Both "task" and "task list" have options.
    .enablePositionalOptions()
    .showHelpAfterError('(add --help for more)')
    .addHelpText(
      'after',
      `
Commands talk to the service that FUNCX_API_URL, FUNCX_CLIENT_ID and FUNCX_CLIENT_SECRET name (or FUNCX_TOKEN in place of the
last two), else to the service of "funcx login", else to the system in the data folder, as its administrator. Exit codes: 0 done, 1 failed, 2 wrong command line.`,
    );
  addLocalCommands(program);
  addEnvCommands(program);
  addConnectCommand(program);
  addLoginCommands(program);
  addRunCommand(program);
  addFunctionCommands(program);
  addEndpointCommands(program);
  addFlowCommands(program);
  addScheduleCommands(program);
  addSubmissionCommands(program);
  addTaskCommands(program);
  addLogsCommand(program);
  addRetryCommand(program);
  addWatchCommand(program);
  addPipelineCommands(program);
  addIdentityCommands(program);
  addTokenCommands(program);
  addGroupCommands(program);
  addDeadLetterCommands(program);
  addLimitCommands(program);
  addCompletionCommands(program);
  return program;
}

function readVersion(): string {
  const { version } = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as { version: string };
  return version;
}
