import { CommanderError } from 'commander';

import { FuncXError } from '../contracts/errors';

import { messageOf, UserError } from './machine/user-error';

import type { Command } from 'commander';

const FAILED = 1;
const WRONG_USAGE = 2;

/** Exit code 1, with a sentence: an error that the user can fix. 2: a wrong command line. Any other error is a bug. */
export async function runProgram(program: Command): Promise<void> {
  throwInsteadOfExit(program);
  endWithReader(process.stdout);
  endWithReader(process.stderr);
  try {
    await program.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : WRONG_USAGE;
      if (error.code === 'commander.invalidArgument' && !/^error:/.test(error.message))
        process.stderr.write(`error: ${error.message}\n`);
    } else if (error instanceof UserError || error instanceof FuncXError) {
      process.stderr.write(`${messageOf(error)}\n`);
      process.exitCode = FAILED;
    } else {
      process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
      process.exitCode = FAILED;
    }
  }
}

/** Exits without an error when the reader of a pipe, such as `head`, has closed the pipe. */
function endWithReader(output: NodeJS.WriteStream): void {
  output.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit();
  });
}

function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  for (const inner of command.commands) throwInsteadOfExit(inner);
}
