import type { NativeConnection } from '@temporalio/worker';

import type { Logger } from './log';

/** The Nexus endpoint through which workflows in every namespace can make pipeline calls. Its name is unique in a cluster. */

export interface NexusEndpoint {
  name: string;
  namespace: string;
  taskQueue: string;
}

/** False if the server refused the endpoint or its name has another target: pipeline calls then work only as child workflows. */
export async function ensureNexusEndpoint(connection: NativeConnection, wanted: NexusEndpoint, log: Logger): Promise<boolean> {
  try {
    const existing = await findTarget(connection, wanted.name);
    if (existing === undefined) {
      await create(connection, wanted);
      return true;
    }
    if (existing.namespace === wanted.namespace && existing.taskQueue === wanted.taskQueue) return true;
    log.warn({ wanted, existing }, 'the Nexus endpoint has another target; set TEMPORAL_NEXUS_ENDPOINT to another name');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (/already (exists|registered)/i.test(reason)) return true; // another process was first
    log.warn({ reason }, 'the Temporal server refused the Nexus endpoint; pipeline calls work as child workflows only');
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
