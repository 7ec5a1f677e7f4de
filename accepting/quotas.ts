import { TerminalError } from '../contracts/errors';
import type { Config } from '../platform/config';
import type { Database } from '../platform/store/database';
import { countOf, hasCode, isOpenGroup, type QuotaName } from '../platform/store/quotas';
import { createOpenTaskLimit, type OpenTaskLimit } from './open-task-limit';

/** How much of everything one owner may have, so that nobody fills the service for everybody. */
export interface Quotas {
  /** Throws LIMIT_EXCEEDED when one more would be too many. */
  requireEndpoint(ownerId: string): Promise<void>;
  requireUserEndpoint(ownerId: string): Promise<void>;
  /** Code that the owner has already registered is always allowed. */
  requireFunction(ownerId: string, code: Buffer): Promise<void>;
  /** A group with open tasks is always allowed. */
  requireGroup(ownerId: string, groupId: string): Promise<void>;
  /** The groups of accepted tasks count from now on. */
  addGroup(ownerId: string): void;
  /** Limit and present use of each quota. */
  usage(ownerId: string): Promise<{ name: QuotaName; used: number; limit: number }[]>;
}

const NAMES = ['open_tasks', 'open_groups', 'functions', 'endpoints', 'user_endpoints'] as const satisfies QuotaName[];

const ADVICE: Record<Exclude<QuotaName, 'open_tasks'>, string> = {
  open_groups: 'task groups with open tasks. Wait until some have their answers, or submit to a group that you have',
  functions: 'functions. Delete those that you no longer need, with "funcx function delete"',
  endpoints: 'endpoints. Delete those that you no longer need, with "funcx endpoint delete"',
  user_endpoints: 'user endpoint configurations. Use fewer different values of user_endpoint_config',
};

export function createQuotas(db: Database, config: Config): Quotas {
  const limits: Record<QuotaName, number> = {
    open_tasks: config.FUNCX_MAX_OPEN_TASKS,
    open_groups: config.FUNCX_MAX_OPEN_GROUPS,
    functions: config.FUNCX_MAX_FUNCTIONS,
    endpoints: config.FUNCX_MAX_ENDPOINTS,
    user_endpoints: config.FUNCX_MAX_USER_ENDPOINTS,
  };
  const make = (name: Exclude<QuotaName, 'open_tasks'>): OpenTaskLimit =>
    createOpenTaskLimit(limits[name], (ownerId) => countOf(db, ownerId, name), {
      sentence: (used) => `You have ${used} of at most ${limits[name]} ${ADVICE[name]}.`,
    });
  const [groups, functions, endpoints, userEndpoints] = [
    make('open_groups'),
    make('functions'),
    make('endpoints'),
    make('user_endpoints'),
  ];

  /** Over the limit, only what is there already may be used again. */
  async function require(quota: OpenTaskLimit, ownerId: string, isThere: () => Promise<boolean>): Promise<void> {
    await quota.check(ownerId, 1).catch(async (error: unknown) => {
      if (!(error instanceof TerminalError) || !(await isThere())) throw error;
    });
  }
  const never = async (): Promise<boolean> => false;

  return {
    async requireEndpoint(ownerId) {
      await require(endpoints, ownerId, never);
      endpoints.add(ownerId, 1);
    },
    async requireUserEndpoint(ownerId) {
      await require(userEndpoints, ownerId, never);
      userEndpoints.add(ownerId, 1);
    },
    async requireFunction(ownerId, code) {
      await require(functions, ownerId, () => hasCode(db, ownerId, code));
      functions.add(ownerId, 1);
    },
    requireGroup: (ownerId, groupId) => require(groups, ownerId, () => isOpenGroup(db, ownerId, groupId)),
    addGroup: (ownerId) => groups.add(ownerId, 1),
    usage: (ownerId) =>
      Promise.all(NAMES.map(async (name) => ({ name, used: await countOf(db, ownerId, name), limit: limits[name] }))),
  };
}
