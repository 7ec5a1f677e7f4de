import { BUFFER, splitBuffer } from '../contracts/packing';

import { parseId } from './arguments';
import { withClient } from './connection';
import { addCommonOptions, printJson } from './output';

import type { Command } from 'commander';

import type { TaskState } from '../sdk/index';
import type { CommonOptions } from './output';

/** What a function printed, as our agent sends it with the result: at most 64 KB, with the middle cut out. */
export interface TaskOutput {
  stdout: string;
  stderr: string;
}

export function outputOf({ details }: TaskState): TaskOutput | undefined {
  const { stdout, stderr } = (details?.output ?? {}) as Record<string, unknown>;
  return typeof stdout === 'string' && typeof stderr === 'string' ? { stdout, stderr } : undefined;
}

/** Writes each stream to the same stream here. Adds a missing newline at the end, because other text follows. */
export function printOutput(output: TaskOutput | undefined): void {
  if (output === undefined) return;
  const ended = (text: string): string => (text === '' || text.endsWith('\n') ? text : `${text}\n`);
  process.stdout.write(ended(output.stdout));
  process.stderr.write(ended(output.stderr));
}

/** `logs`: what a function printed. */
export function addLogsCommand(program: Command): void {
  addCommonOptions(program.command('logs').description('print what the function of a task printed'))
    .argument('<task>', 'the task', parseId)
    .action((id: string, options: CommonOptions) => logs(id, options));
}

async function logs(id: string, options: CommonOptions): Promise<void> {
  const task = await withClient(options, (client) => client.task(id));
  const output = outputOf(task) ?? outputInValue(task);
  if (options.json === true) return printJson({ task_id: id, state: task.state, stdout: '', stderr: '', ...output });
  if (output !== undefined) return printOutput(output);
  const why =
    task.completion_t === undefined
      ? `is ${task.state}; what it prints comes with its answer`
      : 'printed nothing, or its agent does not send output';
  process.stderr.write(`Task ${id} ${why}.\n`);
}

/** The value of a shell command that succeeded contains its output. */
function outputInValue({ result }: TaskState): TaskOutput | undefined {
  if (result === undefined) return undefined;
  const { identifier, body } = splitBuffer(result);
  if (identifier !== BUFFER.json || !body.startsWith('{"returncode":')) return undefined;
  const { stdout, stderr } = JSON.parse(body) as TaskOutput;
  return { stdout, stderr };
}
