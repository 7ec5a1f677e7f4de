import { InvalidArgumentError } from 'commander';

import {
  deadLetterListSchema,
  deadLetterSchema,
  droppedDeadLetterSchema,
  requeuedDeadLetterSchema,
  type DeadLetter,
} from '../contracts/http/v1';

import { parseCount } from './arguments';
import { withClient } from './connection';
import { addCommonOptions, print, printable, printFields, printJson, printTable, showTime } from './output';

import type { Command } from 'commander';

import type { CommonOptions } from './output';

const DEFAULT_LIMIT = 50;

/** `dead-letters`: messages that the service could not process. */
export function addDeadLetterCommands(program: Command): void {
  const command = program.command('dead-letters').description('messages that the service could not process (for administrators)');
  addCommonOptions(command.command('list').description('list them, newest first'))
    .option('--limit <n>', 'how many at most', parseCount, DEFAULT_LIMIT)
    .action((options: CommonOptions & { limit: number }) => list(options));
  addCommonOptions(command.command('show').description('show one, with its headers and the beginning of its body'))
    .argument('<id>', 'its number', parseNumber)
    .action((id: number, options: CommonOptions) => showLetter(id, options));
  addCommonOptions(command.command('drop').description('remove one for good'))
    .argument('<id>', 'its number', parseNumber)
    .action((id: number, options: CommonOptions) => drop(id, options));
  addCommonOptions(command.command('requeue').alias('replay').description('put one back on the queue that it came from'))
    .argument('<id>', 'its number', parseNumber)
    .action((id: number, options: CommonOptions) => requeue(id, options));
}

function parseNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('give its number, as "dead-letters list" shows it.');
  return Number(text);
}

const ask = (options: CommonOptions, method: 'GET' | 'POST' | 'DELETE', path: string): Promise<unknown> =>
  withClient(options, (client) => client.request({ method, path: `/v1/dead-letters${path}` }));

async function list(options: CommonOptions & { limit: number }): Promise<void> {
  const { dead_letters: letters } = deadLetterListSchema.parse(await ask(options, 'GET', `?limit=${options.limit}`));
  if (options.json === true) return printJson({ dead_letters: letters });
  if (letters.length === 0) return print('There are no dead letters.');
  printTable(
    ['ID', 'TIME', 'QUEUE', 'BYTES', 'REASON'],
    letters.map((row) => [
      String(row.id),
      showTime(row.created_at),
      row.queue,
      String(row.size),
      row.reason.split('\n', 1)[0] ?? '',
    ]),
  );
}

async function showLetter(id: number, options: CommonOptions): Promise<void> {
  const letter: DeadLetter = deadLetterSchema.parse(await ask(options, 'GET', `/${id}`));
  if (options.json === true) return printJson(letter);
  printFields([
    ['id', String(letter.id)],
    ['time', showTime(letter.created_at)],
    ['queue', letter.queue],
    ['routing key', letter.routing_key ?? ''],
    ['bytes', String(letter.size)],
    ['reason', letter.reason],
    ['headers', JSON.stringify(letter.headers)],
  ]);
  print(`\n${printable(Buffer.from(letter.body_base64, 'base64').toString('utf8'))}`);
}

async function drop(id: number, options: CommonOptions): Promise<void> {
  const answer = droppedDeadLetterSchema.parse(await ask(options, 'DELETE', `/${id}`));
  if (options.json === true) printJson(answer);
  else print(`Dropped ${id}.`);
}

async function requeue(id: number, options: CommonOptions): Promise<void> {
  const answer = requeuedDeadLetterSchema.parse(await ask(options, 'POST', `/${id}/requeue`));
  if (options.json === true) printJson(answer);
  else print(`Put ${id} back on ${answer.queue}. If the service still cannot process it, it becomes a dead letter again.`);
}
