import type { NativeConnection } from '@temporalio/worker';

import type { Logger } from './log';

/** The name by which workflows of every namespace find the calls of pipelines. Names are unique in a Temporal cluster. */

export interface NexusEndpoint {
  name: string;
  namespace: string;
  taskQueue: string;
}

/** False where the server refused it, or the name leads elsewhere: then calls are child workflows only. */
export async function ensureNexusEndpoint(connection: NativeConnection, wanted: NexusEndpoint, log: Logger): Promise<boolean> {
  try {
    const there = await findTarget(connection, wanted.name);
    if (there === undefined) {
      await create(connection, wanted);
      return true;
    }
    if (there.namespace === wanted.namespace && there.taskQueue === wanted.taskQueue) return true;
    log.warn({ wanted, there }, 'the Nexus endpoint leads elsewhere; name another one by TEMPORAL_NEXUS_ENDPOINT');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (/already (exists|registered)/i.test(reason)) return true; // another process was first
    log.warn({ reason }, 'the Temporal server refused our Nexus endpoint; calls are child workflows only');
  }
  return false;
}

async function findTarget(connection: NativeConnection, name: string): Promise<Omit<NexusEndpoint, 'name'> | undefined> {
  const { endpoints } = await connection.operatorService.listNexusEndpoints({ name });
  const [found] = endpoints;
  if (!found) return undefined;
  const { namespace, taskQueue } = found.spec?.target?.worker ?? {};
  return { namespace: namespace ?? '', taskQueue: taskQueue ?? '' };
}

async function create(connection: NativeConnection, { name, ...worker }: NexusEndpoint): Promise<void> {
  await connection.operatorService.createNexusEndpoint({ spec: { name, target: { worker } } });
}
