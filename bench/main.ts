import { Command, InvalidArgumentError } from 'commander';

import { all, PARTS, RESULTS, type PartName } from './all';
import { latency } from './latency';
import { findOrStartSystem, type MeasuredSystem } from './system';
import { throughput } from './throughput';

/** `npm run bench -- latency|throughput|all`: measures the running system, or starts one. */

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
  .option('--submitters <n>', 'concurrent submitters of 128 tasks each', count, 50)
  .option('--rounds <n>', 'submissions one after another', count, 5)
  .option('--data-dir <dir>', 'data folder of the system to measure')
  .option('--json', 'print one JSON object')
  .action((options: Shared & { tasks: number; submitters: number; rounds: number }) =>
    measure(options, (system) => throughput(system, { ...options, json: options.json === true })),
  );

const partNames = (text: string): PartName[] => {
  const names = text.split(',').map((name) => name.trim());
  const isPart = (name: string): name is PartName => Object.hasOwn(PARTS, name);
  if (!names.every(isPart)) throw new InvalidArgumentError(`a list, with commas, of ${Object.keys(PARTS).join(', ')}.`);
  return names;
};

program
  .command('all')
  .description('every part in one run, beside Celery, Parsl, Dask and plain Temporal: a table, JSON and a chart')
  .option('--parts <names>', 'only these parts', partNames, Object.keys(PARTS) as PartName[])
  .option('--quick', 'fewer and smaller rounds: minutes instead of an hour')
  .option('--backlog-tasks <n>', 'tasks of the part backlog', count)
  .option('--results <dir>', 'folder of the results', RESULTS)
  .option('--data-dir <dir>', 'data folder of the system to measure')
  .action((options: Shared & { parts: PartName[]; quick?: boolean; backlogTasks?: number; results: string }) =>
    measure(options, (system) =>
      all(system, {
        parts: options.parts,
        isQuick: options.quick === true,
        backlogTasks: options.backlogTasks,
        folder: options.results,
      }),
    ),
  );

async function measure(options: Shared, work: (system: MeasuredSystem) => Promise<void>): Promise<void> {
  const system = findOrStartSystem(options.dataDir);
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
