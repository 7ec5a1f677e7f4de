import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';

/** The system under test: the running system of the data folder, or a new one on private ports. */

export const REPOSITORY = join(__dirname, '..', '..');
const CONTROL = join(__dirname, '..', 'local', 'main.js');

export interface Credentials {
  clientId: string;
  clientSecret: string;
}

export interface MeasuredSystem {
  apiUrl: string;
  temporalAddress: string;
  endpointId: string;
  endpointName: string;
  /** Credentials of the administrator. */
  credentials: Credentials;
  /** URL with the credentials of the service, which have all rights on the broker. */
  amqpUrl: string;
  managementUrl: string;
  /** The environment variables of the local agent, to start more agents with. */
  agentEnv: Record<string, string>;
  /** The process IDs of the system by name. An ID changes when its process is restarted. */
  processes(): Map<string, number>;
  /** Which system was measured; shown beside the figures. */
  origin: string;
  /** If the benchmark started the system: stops it and deletes its data folder. */
  close(): void;
}

/** The fields of the state file of `up` that the benchmark reads. */
interface SystemFile {
  phase: string;
  supervisor: { pid: number };
  api_url: string;
  temporal_address: string;
  identity_file: string;
  env_files: Record<string, string>;
  services: { name: string; pid: number | null }[];
  endpoint: { name: string; id: string | null } | null;
}

/** Returns the running system of the data folder. Without one, starts a system with a folder of its own. */
export function findOrStartSystem(dataDir: string | undefined): MeasuredSystem {
  const folder = dataDir ?? process.env.FUNCX_DATA_DIR ?? join(REPOSITORY, '.funcx-data');
  const running = readSystem(folder);
  if (running) return describe(folder, running, `the running system in ${folder}`, () => undefined);
  if (dataDir !== undefined)
    throw new Error(`No system runs in ${dataDir}; start it with "npm run up -- --data-dir ${dataDir}".`);

  const own = mkdtempSync(join(tmpdir(), 'funcx-bench-'));
  const stop = (): void => {
    spawnSync(process.execPath, [CONTROL, 'down', '--data-dir', own], { stdio: 'ignore' });
    rmSync(own, { recursive: true, force: true });
  };
  console.log(`No system runs in ${folder}; starting one on private ports.`);
  const up = ['up', '--detach', '--private-ports', '--data-dir', own];
  const { status } = spawnSync(process.execPath, [CONTROL, ...up], { stdio: ['ignore', 'ignore', 'inherit'] });
  const started = readSystem(own);
  if (status !== 0 || !started) {
    spawnSync(process.execPath, [CONTROL, 'down', '--data-dir', own], { stdio: 'ignore' });
    throw new Error(`The system did not start; its logs are in ${join(own, 'logs')}.`);
  }
  return describe(own, started, 'a system started for this benchmark', stop);
}

function readSystem(folder: string): SystemFile | undefined {
  const file = join(folder, 'run', 'state.json');
  if (!existsSync(file)) return undefined;
  const state = readJson<SystemFile>(file);
  return state.phase === 'ready' && isAlive(state.supervisor.pid) ? state : undefined;
}

const readJson = <T>(file: string): T => JSON.parse(readFileSync(file, 'utf8')) as T;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function describe(folder: string, state: SystemFile, origin: string, close: () => void): MeasuredSystem {
  const { endpoint } = state;
  if (!endpoint?.id) throw new Error('The system has no local endpoint; start it without --no-endpoint.');
  const identity = readJson<{ client_id: string; client_secret: string }>(state.identity_file);
  const environment = (name: string): Record<string, string> => readJson(state.env_files[name] ?? '');
  const { AMQP_URL: amqpUrl = '', AMQP_MANAGEMENT_URL: managementUrl = '' } = environment('api');
  return {
    apiUrl: state.api_url,
    temporalAddress: state.temporal_address,
    endpointId: endpoint.id,
    endpointName: endpoint.name,
    credentials: { clientId: identity.client_id, clientSecret: identity.client_secret },
    amqpUrl,
    managementUrl,
    agentEnv: environment('endpoint'),
    processes() {
      const services = readSystem(folder)?.services ?? [];
      return new Map(services.flatMap(({ name, pid }) => (pid === null ? [] : [[name, pid] as const])));
    },
    origin,
    close,
  };
}

/** The cores and the version of Node. */
export function machine(): string {
  return `${availableParallelism()} cores, Node ${process.versions.node}`;
}
