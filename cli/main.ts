import { Command } from 'commander';

import { addLocalCommands } from '../local/commands';
import { runProgram } from '../local/run-program';

import { addEnvCommand } from './env';
import { addRunCommand } from './run';

const program = new Command('funcx')
  .description('funcX on Temporal: run functions on endpoints')
  .showHelpAfterError('(add --help for more)');
addLocalCommands(program);
addEnvCommand(program);
addRunCommand(program);
void runProgram(program);
