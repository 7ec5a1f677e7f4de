import { Command } from 'commander';

import { addLocalCommands } from '../local/commands';

import { addDeadLetterCommands } from './dead-letters';
import { addConnectCommand } from './connect';
import { addEndpointCommands } from './endpoint';
import { addEnvCommand } from './env';
import { addFlowCommands } from './flow';
import { addFunctionCommands } from './function';
import { addGroupCommands } from './group';
import { addIdentityCommands } from './identity';
import { addLimitCommands } from './limits';
import { addPipelineCommands } from './pipeline';
import { addRunCommand } from './run';
import { addScheduleCommands } from './schedule';
import { addSubmissionCommands } from './submission';
import { addTaskCommands } from './task';
import { addLogsCommand } from './task-output';
import { addWatchCommand } from './watch';

/** The whole command line. */
export function createProgram(): Command {
  const program = new Command('funcx')
    .description('funcX on Temporal: run functions on endpoints')
    .showHelpAfterError('(add --help for more)')
    .addHelpText(
      'after',
      `
Commands talk to the service that FUNCX_API_URL, FUNCX_CLIENT_ID and FUNCX_CLIENT_SECRET name, else to the system in the
data folder, as its administrator. Exit codes: 0 done, 1 failed, 2 wrong command line.`,
    );
  addLocalCommands(program);
  addEnvCommand(program);
  addConnectCommand(program);
  addRunCommand(program);
  addFunctionCommands(program);
  addEndpointCommands(program);
  addFlowCommands(program);
  addScheduleCommands(program);
  addSubmissionCommands(program);
  addTaskCommands(program);
  addLogsCommand(program);
  addWatchCommand(program);
  addPipelineCommands(program);
  addIdentityCommands(program);
  addGroupCommands(program);
  addDeadLetterCommands(program);
  addLimitCommands(program);
  return program;
}
