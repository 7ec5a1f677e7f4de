import { randomUUID } from 'node:crypto';
import { join } from 'node:path';

import { sdk104 } from '../helpers/funcx-1.0';
import { admin, localEndpoint, state } from '../helpers/system';
import { Submitter, type Program, type SubmitterOptions } from './submitter';

/** The submitters of a run: our own client over each of its transports, the released clients, and a pipeline. */

const ROOT = join(__dirname, '..', '..');
const PROGRAMS = join(__dirname, 'submitters');

export interface Submitters {
  list: Submitter[];
  /** Clients that this machine cannot run, and why. */
  skipped: string[];
}

export async function createSubmitters(dir: string, isQuick: boolean): Promise<Submitters> {
  const shared = { dir, endpointId: localEndpoint() };
  const make = (options: Omit<SubmitterOptions, 'dir' | 'endpointId' | 'taskGroupId'>): Submitter =>
    new Submitter({ ...shared, taskGroupId: randomUUID(), ...options });
  const ours = (name: string, transport: string, share: number): Submitter =>
    make({ name, program: typescript('typescript.ts', transport), languages: 'mixed', share, accepts: 'task' });

  const amqp = ours('typescript-amqp', 'auto', 4);
  const globus = make({
    name: 'globus',
    program: stockGlobus('submit'),
    reattach: stockGlobus('reattach'),
    languages: 'python',
    share: 4,
    accepts: 'task',
    readsQueue: true,
  });
  if (isQuick) return { list: [amqp, globus], skipped: [] };

  const list = [amqp, ours('typescript-events', 'events', 1), globus];
  const pipeline = typescript('pipeline.ts');
  list.push(make({ name: 'pipeline', program: pipeline, languages: 'plain', share: 1, accepts: 'workflow' }));
  const skipped: string[] = [];
  try {
    const bin = await sdk104();
    list.push(
      make({
        name: 'funcx-1.0',
        program: funcx10(bin, 'submit'),
        reattach: funcx10(bin, 'reattach'),
        languages: 'python',
        share: 1,
        accepts: 'task',
      }),
    );
  } catch (error) {
    skipped.push(`funcX 1.0: its client cannot be installed here (${String(error).split('\n')[0]})`);
  }
  return { list, skipped };
}

/** The arguments that every submitter gets come after the program's own; the transport follows them by the environment. */
function typescript(file: string, transport = ''): Program {
  const { client_id, client_secret } = admin();
  const { api_url, ca_file, temporal_address } = state();
  return {
    command: process.execPath,
    args: ['--require', join(ROOT, 'test', 'helpers', 'typescript.cjs'), join(PROGRAMS, file)],
    env: {
      ...process.env,
      FUNCX_API_URL: api_url,
      FUNCX_CLIENT_ID: client_id,
      FUNCX_CLIENT_SECRET: client_secret,
      ...(ca_file === null ? {} : { FUNCX_CA: ca_file }),
      TEMPORAL_ADDRESS: temporal_address,
      CHAOS_TRANSPORT: transport,
    },
  };
}

/** The SDK in the agent's own Python. Its address of the service is fixed; as a proxy the service answers for it. */
function stockGlobus(mode: 'submit' | 'reattach'): Program {
  const { client_id, client_secret } = admin();
  const { api_url, python, data_dir } = state();
  if (python === null) throw new Error('the system has no Python');
  return {
    command: python,
    args: [join(PROGRAMS, 'globus.py'), mode],
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      GLOBUS_SDK_ENVIRONMENT: 'local',
      GLOBUS_SDK_SERVICE_URL_AUTH: `${api_url}/`,
      GLOBUS_COMPUTE_CLIENT_ID: client_id,
      GLOBUS_COMPUTE_CLIENT_SECRET: client_secret,
      GLOBUS_COMPUTE_USER_DIR: join(data_dir, 'globus'),
      HTTP_PROXY: api_url,
      http_proxy: api_url,
    },
  };
}

function funcx10(bin: string, mode: 'submit' | 'reattach'): Program {
  const { client_id, client_secret } = admin();
  const { api_url, ws_url, data_dir } = state();
  return {
    command: join(bin, 'python'),
    args: [join(PROGRAMS, 'funcx_1_0.py'), mode],
    env: {
      PATH: process.env.PATH,
      HOME: data_dir,
      FUNCX_SDK_ENVIRONMENT: 'local',
      GLOBUS_SDK_SERVICE_URL_AUTH: `${api_url}/`,
      GLOBUS_SDK_SERVICE_URL_SEARCH: `${api_url}/`,
      FUNCX_SDK_CLIENT_ID: client_id,
      FUNCX_SDK_CLIENT_SECRET: client_secret,
      FUNCX_API_URL: api_url,
      FUNCX_WS_URL: ws_url,
    },
  };
}
