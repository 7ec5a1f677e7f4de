import { FULL, hasName, QUICK, readOptions } from './options';
import { makePlan } from './plan';
import { planLines, resultLines } from './report';
import { runPlan } from './run';
import type { Submitter } from './submitter';
import { createSubmitters } from './submitters';
import { prepareSystem, type ChaosSystem } from './system';

/**
 * Chaos: a system of its own does real work while its parts are killed, stopped, blocked, filled and restarted in a seeded
 * order; then a checker that never asks the product compares what the submitters saw with what the engines hold.
 */

const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function main(): Promise<boolean> {
  const { seed, tasks, isQuick, only } = readOptions(process.argv.slice(2));
  const whole = isQuick ? QUICK : FULL;
  const scale = { ...whole, pairs: whole.pairs.filter((pair) => hasName(pair, only)) };
  say(`seed ${seed}, ${tasks} tasks${isQuick ? ', quick' : ''}`);
  const system = prepareSystem(scale.pairs.some(({ fault }) => fault === 'full disk'));
  const pairs = scale.pairs.filter(({ fault }) => fault !== 'full disk' || system.disks !== undefined);
  if (pairs.length < scale.pairs.length) say('skipped: full disk (only root can mount a small file system)');
  const plan = makePlan({ ...scale, seed, tasks, pairs });
  planLines(plan).forEach(say);

  let list: Submitter[] = [];
  let isRight = false;
  const stop = onceStopped(system, () => list.forEach((submitter) => submitter.kill()));
  try {
    system.start();
    process.env.FUNCX_TEST_DATA_DIR = system.dataDir; // where the helpers of the tests look for a running system
    const { list: made, skipped } = await createSubmitters(system.submittersDir, isQuick);
    list = made;
    skipped.forEach((reason) => say(`skipped: ${reason}`));
    const outcome = await runPlan(system, plan, list, scale, say);
    resultLines(plan, list, outcome).forEach(say);
    isRight = outcome.violations.length === 0;
    return isRight;
  } finally {
    stop(!isRight);
  }
}

/** Stops the system at the end of the run, or when the run is given up by a signal. */
function onceStopped(system: ChaosSystem, endSubmitters: () => void): (keepLogs: boolean) => void {
  let isStopped = false;
  const stop = (keepLogs: boolean): void => {
    if (isStopped) return;
    isStopped = true;
    endSubmitters();
    const logs = system.stop(keepLogs);
    if (logs !== undefined) say(`logs of the parts: ${logs}; of the submitters: ${system.submittersDir}`);
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      stop(false);
      process.exit(1);
    });
  }
  return stop;
}

main().then(
  (isRight) => {
    say(isRight ? 'chaos: everything held' : 'chaos: FAILED');
    process.exit(isRight ? 0 : 1);
  },
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exit(1);
  },
);
