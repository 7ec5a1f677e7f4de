import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';

import { chartOf } from './chart';
import { round } from './figures';
import { isMet, ratioOf, type Measure } from './measures';
import { backlogPart } from './parts/backlog';
import { endpointsPart } from './parts/endpoints';
import { fairnessPart } from './parts/fairness';
import { latencyPart } from './parts/latency';
import { FULL, QUICK, type Part } from './parts/part';
import { payloadPart } from './parts/payload';
import { throughputPart } from './parts/throughput';
import { tableOf } from './report';
import { REPOSITORY, type MeasuredSystem } from './system';

/** `npm run bench -- all`: every part in one run on one system, with the peers, as a table, as JSON and as a chart. */

export const PARTS = {
  throughput: throughputPart,
  latency: latencyPart,
  payload: payloadPart,
  backlog: backlogPart,
  fairness: fairnessPart,
  endpoints: endpointsPart,
} satisfies Record<string, Part>;

export type PartName = keyof typeof PARTS;

export interface AllOptions {
  parts: readonly PartName[];
  isQuick: boolean;
  /** Instead of the number that the scale has. */
  backlogTasks: number | undefined;
  /** Folder for the results; created if it does not exist. */
  folder: string;
}

export const RESULTS = join(REPOSITORY, 'bench', 'results');
const GIBIBYTE = 2 ** 30;

export async function all(system: MeasuredSystem, { parts, isQuick, backlogTasks, folder }: AllOptions): Promise<void> {
  const begun = Date.now();
  const preset = isQuick ? QUICK : FULL;
  const scale = { ...preset, backlogTasks: backlogTasks ?? preset.backlogTasks };
  const configuration = configurationOf(system, isQuick);
  const measures: Measure[] = [];
  const failures: Record<string, string> = {};
  for (const name of parts) {
    const say = (line: string): void => {
      process.stderr.write(`${elapsed(begun)}  ${name}: ${line}\n`);
    };
    try {
      measures.push(...(await PARTS[name]({ system, scale, say })));
    } catch (error) {
      // A failure of one part does not stop the other parts.
      failures[name] = error instanceof Error ? error.message : String(error);
      say(`failed: ${failures[name]}`);
    }
  }
  const file = join(folder, new Date(begun).toISOString().slice(0, 19).replace(/:/g, ''));
  const document = {
    configuration,
    scale,
    measures: measures.map((measure) => ({ ...measure, ratio: ratioOf(measure), is_met: isMet(measure) })),
    failures,
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${file}.json`, `${JSON.stringify(document, null, 2)}\n`);
  writeFileSync(`${file}.svg`, chartOf(measures, Object.values(configuration)));
  console.log(`${Object.values(configuration).join('\n')}\n\n${tableOf(measures)}\n\n${file}.json\n${file}.svg`);
  const failed = Object.entries(failures).map(([name, text]) => `${name}: ${text}`);
  if (failed.length > 0) throw new Error(`These parts failed. ${failed.join(' ')}`);
}

/** The versions and settings that the figures depend on. */
function configurationOf({ origin }: MeasuredSystem, isQuick: boolean): Record<string, string> {
  const requirements = readFileSync(join(__dirname, 'peers', 'requirements.txt'), 'utf8');
  const versionOf = (name: string): string => new RegExp(`^${name}==(.*)$`, 'm').exec(requirements)?.[1] ?? 'unknown';
  return {
    machine: `${availableParallelism()} cores (${cpus()[0]?.model ?? 'unknown'}), ${round(totalmem() / GIBIBYTE, 0)} GiB, Node ${process.versions.node}`,
    build: `build ${commit()}, ${origin}${isQuick ? ', quick scale' : ''}`,
    peers: `Celery ${versionOf('celery')}, Parsl ${versionOf('parsl')}, Dask ${versionOf('distributed')}, one worker process each`,
    durability: 'all durable settings on; Celery acknowledges late and keeps messages and results on disk',
  };
}

function commit(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { cwd: REPOSITORY, encoding: 'utf8' }).trim();
  } catch {
    return 'without a commit';
  }
}

function elapsed(begunMs: number): string {
  const seconds = Math.floor((Date.now() - begunMs) / 1_000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}
