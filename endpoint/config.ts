import { spawnSync } from 'node:child_process';
import { availableParallelism, homedir } from 'node:os';
import path from 'node:path';

import { z } from 'zod';

import type { Confinement } from './runners/confinement';
import type { WorkerLimits } from './runners/limits';

const MEBIBYTE = 2 ** 20;
const PROBE_MS = 5_000;

/** The environment variables of the agent. Only this file and the launcher in `installed/` read them. */

const configSchema = z.object({
  FUNCX_API_URL: z.url().transform((url) => url.replace(/\/+$/, '')),
  FUNCX_CLIENT_ID: z.string().min(1),
  FUNCX_CLIENT_SECRET: z.string().min(1),
  /** PEM file of the authority that signed the service's certificate. */
  FUNCX_CA: z.string().min(1).optional(),
  FUNCX_ENDPOINT_NAME: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,128}$/, 'letters, digits, dot, underscore and dash')
    .default('local'),
  FUNCX_ENDPOINT_DIR: z
    .string()
    .min(1)
    .transform((dir) => path.resolve(dir)),
  /** The ID that the first registration requests. */
  FUNCX_ENDPOINT_ID: z.uuid().optional(),
  FUNCX_ENDPOINT_PUBLIC: z
    .enum(['0', '1', 'true', 'false'])
    .transform((text) => text === '1' || text === 'true')
    .optional(),
  /** ID of a group of identities that may also submit; `none` removes the group. */
  FUNCX_ENDPOINT_GROUP: z.union([z.uuid(), z.literal('none')]).optional(),
  /** IDs of the only functions that the endpoint runs, separated by commas. */
  FUNCX_ENDPOINT_FUNCTIONS: z
    .string()
    .transform((text) => text.split(',').map((id) => id.trim()))
    .pipe(z.array(z.uuid()))
    .optional(),
  /** The Python for functions. Its environment must have the globus-compute-sdk. */
  FUNCX_PYTHON: z.string().min(1).default('python3'),
  /** How to add a package, shown after a ModuleNotFoundError. */
  FUNCX_PACKAGE_ADVICE: z.string().optional(),
  FUNCX_WORKERS: z.coerce.number().int().min(1).max(4096).default(availableParallelism()),
  /** Overrides the value of the service. */
  FUNCX_ACK_WITHIN_MS: z.coerce.number().int().min(100).optional(),
  /** How long a drain waits for running calls. */
  FUNCX_DRAIN_MS: z.coerce.number().int().min(0).default(30_000),
  /** 1: each Python call runs in its own directory, as with `run_in_sandbox` of the stock agent. */
  FUNCX_SANDBOX: z.enum(['0', '1']).default('0'),
  /** `uid:gid` of the user that runs function code, if the agent is root; `same` is the agent's own user. */
  FUNCX_WORKER_USER: z
    .union([z.literal('same').transform(() => undefined), z.string().regex(/^\d+:\d+$/, 'uid:gid, as numbers')])
    .optional(),
  /** Folders that function code must not see, separated by colons. If set, function code runs in a bubblewrap sandbox. */
  FUNCX_WORKER_HIDES: z.string().min(1).optional(),
  /** 1: each worker runs in its own sandbox and cannot see the processes and folders of other workers. Needs bubblewrap. */
  FUNCX_ISOLATE: z.enum(['0', '1']).default('0'),
  /** Maximum run time of a call, regardless of its policy; seconds. */
  FUNCX_MAX_WALLTIME_S: z.coerce.number().positive().optional(),
  /** Memory limit of one worker with its children; MB of 2^20 bytes. Without control groups: of each process. */
  FUNCX_WORKER_MEMORY_MB: z.coerce.number().int().min(16).optional(),
  /** Limit of processes and threads of one worker. Without control groups: of the user that runs function code. */
  FUNCX_WORKER_PROCESSES: z.coerce.number().int().min(8).optional(),
  /** Limit of open files of one process. */
  FUNCX_WORKER_OPEN_FILES: z.coerce.number().int().min(128).optional(),
  /** The largest file that a function may write; MB of 2^20 bytes. */
  FUNCX_WORKER_FILE_MB: z.coerce.number().int().min(1).optional(),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
});

export interface AgentConfig {
  apiUrl: string;
  clientId: string;
  clientSecret: string;
  caFile: string | undefined;
  name: string;
  dir: string;
  wishedId: string | undefined;
  /** Who may submit, and which functions. Undefined fields keep the value that the service has. */
  sharing: { isPublic?: boolean; groupId?: string | null; functionIds?: string[] };
  python: string;
  workers: number;
  ackWithinMs: number | undefined;
  drainMs: number;
  logLevel: string;
  /** Environment that user code inherits: everything except the agent's credentials. */
  workerEnv: NodeJS.ProcessEnv;
  confinement: Confinement;
  maxWalltimeMs: number | undefined;
}

/** Reads the environment. Throws an error that names each invalid variable. */
export function readConfig(env: NodeJS.ProcessEnv): AgentConfig {
  // An empty variable counts as absent: compose files and shells set empty variables.
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
  const parsed = configSchema.safeParse(given);
  if (!parsed.success) throw new Error(`the agent's environment is not valid:\n${z.prettifyError(parsed.error)}`);
  const values = parsed.data;
  const runDir = path.join(values.FUNCX_ENDPOINT_DIR, 'tasks');
  const user = parseUser(values.FUNCX_WORKER_USER);
  const hidden = values.FUNCX_WORKER_HIDES?.split(':');
  const isIsolated = values.FUNCX_ISOLATE === '1';
  if (isIsolated) requireSandbox(user, env);
  const { FUNCX_CLIENT_ID: _id, FUNCX_CLIENT_SECRET: _secret, FUNCX_TOKEN: _token, ...workerEnv } = env;
  return {
    apiUrl: values.FUNCX_API_URL,
    clientId: values.FUNCX_CLIENT_ID,
    clientSecret: values.FUNCX_CLIENT_SECRET,
    caFile: values.FUNCX_CA,
    name: values.FUNCX_ENDPOINT_NAME,
    dir: values.FUNCX_ENDPOINT_DIR,
    wishedId: values.FUNCX_ENDPOINT_ID?.toLowerCase(),
    sharing: {
      isPublic: values.FUNCX_ENDPOINT_PUBLIC,
      groupId: values.FUNCX_ENDPOINT_GROUP === 'none' ? null : values.FUNCX_ENDPOINT_GROUP,
      functionIds: values.FUNCX_ENDPOINT_FUNCTIONS,
    },
    python: values.FUNCX_PYTHON,
    workers: values.FUNCX_WORKERS,
    ackWithinMs: values.FUNCX_ACK_WITHIN_MS,
    drainMs: values.FUNCX_DRAIN_MS,
    logLevel: values.LOG_LEVEL,
    workerEnv: {
      ...workerEnv,
      // The user that runs function code must not use the home of the agent's user.
      ...(user === undefined ? {} : { HOME: runDir }),
      FUNCX_RUN_DIR: runDir,
      FUNCX_SANDBOX: values.FUNCX_SANDBOX,
    },
    confinement: {
      user,
      hidden: isIsolated ? [...(hidden ?? []), values.FUNCX_ENDPOINT_DIR, homedir()].filter(isHidable) : hidden,
      isIsolated,
      runDir,
      dir: values.FUNCX_ENDPOINT_DIR,
      limits: limitsOf(values),
    },
    maxWalltimeMs: values.FUNCX_MAX_WALLTIME_S === undefined ? undefined : values.FUNCX_MAX_WALLTIME_S * 1000,
  };
}

const isHidable = (folder: string, at: number, all: string[]): boolean => folder !== '/' && all.indexOf(folder) === at;

function limitsOf(values: z.infer<typeof configSchema>): WorkerLimits | undefined {
  const limits = {
    memoryBytes: values.FUNCX_WORKER_MEMORY_MB === undefined ? undefined : values.FUNCX_WORKER_MEMORY_MB * MEBIBYTE,
    processes: values.FUNCX_WORKER_PROCESSES,
    openFiles: values.FUNCX_WORKER_OPEN_FILES,
    fileBytes: values.FUNCX_WORKER_FILE_MB === undefined ? undefined : values.FUNCX_WORKER_FILE_MB * MEBIBYTE,
  };
  return Object.values(limits).some((limit) => limit !== undefined) ? limits : undefined;
}

/** Throws an error that says what to do if a sandbox cannot confine function code. */
function requireSandbox(user: Confinement['user'], env: NodeJS.ProcessEnv): void {
  if (process.getuid?.() === 0 && user === undefined) {
    throw new Error(
      'FUNCX_ISOLATE=1 cannot confine root: set FUNCX_WORKER_USER to uid:gid of a user that runs function code, or start the agent as an ordinary user.',
    );
  }
  const { status } = spawnSync('bwrap', ['--ro-bind', '/', '/', '--unshare-pid', '--proc', '/proc', 'true'], {
    env: { PATH: env.PATH },
    timeout: PROBE_MS,
  });
  if (status === 0) return;
  throw new Error(
    'FUNCX_ISOLATE=1 needs bubblewrap (the program bwrap) and a kernel that allows it: install bubblewrap, or start the agent without FUNCX_ISOLATE.',
  );
}

function parseUser(text: string | undefined): Confinement['user'] {
  if (text === undefined) return undefined;
  const [uid, gid] = text.split(':').map(Number);
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}
