import { Command, InvalidArgumentError } from 'commander';

import { latency } from './latency';
import { findSystem, type MeasuredSystem } from './system';
import { throughput } from './throughput';

/** `npm run bench -- latency|throughput`: measures the running system, or starts one. */

interface Shared {
  dataDir?: string;
  json?: boolean;
}

const count = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number above 0.');
  return value;
};

const program = new Command('bench').description('measures the service by its public interfaces').showHelpAfterError();

program
  .command('latency')
  .description('one warm call beside an empty Temporal workflow, in one run')
  .option('--calls <n>', 'calls to measure', count, 200)
  .option('--data-dir <dir>', 'data folder of the system to measure')
  .option('--json', 'print one JSON object')
  .action((options: Shared & { calls: number }) =>
    measure(options, (system) => latency(system, { calls: options.calls, json: options.json === true })),
  );

program
  .command('throughput')
  .description('tasks a second: large submissions, many submitters, one submitter')
  .option('--tasks <n>', 'tasks of a large submission', count, 1_000)
  .option('--submitters <n>', 'submitters of 128 tasks at once', count, 50)
  .option('--rounds <n>', 'submissions one after another', count, 5)
  .option('--data-dir <dir>', 'data folder of the system to measure')
  .option('--json', 'print one JSON object')
  .action((options: Shared & { tasks: number; submitters: number; rounds: number }) =>
    measure(options, (system) => throughput(system, { ...options, json: options.json === true })),
  );

async function measure(options: Shared, work: (system: MeasuredSystem) => Promise<void>): Promise<void> {
  const system = findSystem(options.dataDir);
  try {
    await work(system);
  } finally {
    system.close();
  }
}

program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
