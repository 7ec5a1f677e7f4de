import { Command } from 'commander';

import { addLocalCommands } from './commands';
import { runProgram } from './run-program';

/** Entry point of `npm run up`, `down` and `status`, called by the bootstrap. */
const program = new Command('funcx').description('funcX on Temporal, on this machine');
addLocalCommands(program);
void runProgram(program);
