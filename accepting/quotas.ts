import { TerminalError } from '../contracts/errors';
import type { Config } from '../platform/config';
import type { Database } from '../platform/store/database';
import { countOf, hasCode, isOpenGroup, leasesOf, type QuotaName } from '../platform/store/quotas';
import { createOwnerLimit, type EndReservation, type OwnerLimit } from './owner-limit';

/** How much of everything one owner may have, so that no owner fills the service for everybody. */
export interface Quotas {
  /** Throws LIMIT_EXCEEDED when one more endpoint would exceed the limit. */
  requireRoomForEndpoint(ownerId: string): Promise<void>;
  requireRoomForUserEndpoint(ownerId: string): Promise<void>;
  requireRoomForSchedule(ownerId: string): Promise<void>;
  /** For a run of a flow that starts, or is resumed. */
  requireRoomForRun(ownerId: string): Promise<void>;
  /** Code that the owner has already registered is always allowed. */
  requireRoomForFunction(ownerId: string, code: Buffer): Promise<void>;
  /**
   * Reserves room for a task group, or throws LIMIT_EXCEEDED; a group with open tasks is always allowed. Call the returned
   * function when its tasks are stored (true) or refused (false).
   */
  reserveTaskGroup(ownerId: string, groupId: string): Promise<EndReservation>;
  /**
   * Reserves bytes of arguments, or throws LIMIT_EXCEEDED. Call the returned function when they are stored (true) or given up
   * (false). Results count once they are stored, and are never refused.
   */
  reserveBytes(ownerId: string, bytes: number): Promise<EndReservation>;
  /** Counts a results connection of this process, or throws LIMIT_EXCEEDED. Call the returned function when it closes. */
  enterSocket(ownerId: string): () => void;
  /** Counts a task group that a connection to this WebSocket follows, or throws LIMIT_EXCEEDED. */
  followGroup(ownerId: string): FollowedGroup;
  usage(ownerId: string): Promise<{ name: QuotaName | 'result_sockets'; used: number; limit: number }[]>;
}

export interface FollowedGroup {
  /** `isKnown`: the group has had a submission. Throws LIMIT_EXCEEDED for too many others: inventing names is free. */
  setKnown(isKnown: boolean): void;
  /** Call once, when the connection closes. */
  leave(): void;
}

const NAMES = [
  'open_tasks',
  'open_groups',
  'functions',
  'endpoints',
  'user_endpoints',
  'stored_bytes',
  'api_tokens',
  'schedules',
  'active_runs',
] as const satisfies QuotaName[];
/** Longer than the default, because the count reads every submission of the owner. */
const REFRESH_BYTES_MS = 60_000;
const SOCKET_RETRY_AFTER_S = 10;
/** Each connection may follow one task group without a submission; small limits on connections leave room for these. */
const MIN_UNKNOWN_GROUPS = 100;

/** The quotas that this module enforces. Those of open tasks and API tokens are enforced where they are created. */
type RefusedHere = Exclude<QuotaName, 'open_tasks' | 'api_tokens'>;

const ADVICE: Record<RefusedHere, string> = {
  open_groups: 'task groups with open tasks. Wait until some have their answers, or submit to an existing group',
  functions: 'functions. Delete those that you no longer need, with "funcx function delete"',
  endpoints: 'endpoints. Delete those that you no longer need, with "funcx endpoint delete"',
  user_endpoints: 'user endpoint configurations. Use fewer different values of user_endpoint_config',
  schedules: 'schedules. Delete those that you no longer need, with "funcx schedule delete"',
  active_runs: 'active runs of flows. Wait until some end, or cancel them',
  stored_bytes:
    'stored bytes of functions, arguments and results. Keep large data at the endpoint, or wait until old results are removed',
};

export function createQuotas(db: Database, config: Config): Quotas {
  const maxSockets = config.FUNCX_MAX_RESULT_SOCKETS;
  const limits: Record<QuotaName, number> = {
    open_tasks: config.FUNCX_MAX_OPEN_TASKS,
    open_groups: config.FUNCX_MAX_OPEN_GROUPS,
    functions: config.FUNCX_MAX_FUNCTIONS,
    endpoints: config.FUNCX_MAX_ENDPOINTS,
    user_endpoints: config.FUNCX_MAX_USER_ENDPOINTS,
    stored_bytes: config.FUNCX_MAX_STORED_BYTES,
    api_tokens: config.FUNCX_MAX_API_TOKENS,
    schedules: config.FUNCX_MAX_SCHEDULES,
    active_runs: config.FUNCX_MAX_ACTIVE_RUNS,
  };
  const make = (name: RefusedHere, refreshMs?: number): OwnerLimit =>
    createOwnerLimit(limits[name], leasesOf(db, name), {
      refusalMessage: (used) => `You have ${used} of at most ${limits[name]} ${ADVICE[name]}.`,
      refreshMs,
    });
  const bytes = make('stored_bytes', REFRESH_BYTES_MS);
  const sockets = countOpen(maxSockets, 'connections for results. Close some, or use one client for several task groups');
  const followed = countOpen(
    limits.open_groups,
    'task groups that connections for results follow. Close connections that you no longer need',
  );
  const unknown = countOpen(
    Math.max(MIN_UNKNOWN_GROUPS, maxSockets),
    'task groups without a submission that connections for results follow. Submit to them, or close connections',
  );
  /** Requests of one group that arrive at the same time share one reservation. */
  const enteredGroups = new Map<string, { requests: number; isStored: boolean; room: Promise<EndReservation> }>();
  const [groups, functions, endpoints, userEndpoints, schedules, runs] = [
    make('open_groups'),
    make('functions'),
    make('endpoints'),
    make('user_endpoints'),
    make('schedules'),
    make('active_runs'),
  ];

  /** A refusal does not hold for an object that exists already. */
  async function unlessThere(isThere: () => Promise<boolean>, check: () => Promise<void>): Promise<void> {
    try {
      await check();
    } catch (error) {
      if (!(error instanceof TerminalError) || !(await isThere())) throw error;
    }
  }

  return {
    requireRoomForEndpoint: (ownerId) => endpoints.take(ownerId, 1),
    requireRoomForUserEndpoint: (ownerId) => userEndpoints.take(ownerId, 1),
    requireRoomForSchedule: (ownerId) => schedules.take(ownerId, 1),
    requireRoomForRun: (ownerId) => runs.take(ownerId, 1),
    async requireRoomForFunction(ownerId, code) {
      const isThere = (): Promise<boolean> => hasCode(db, ownerId, code);
      // Known code needs no room, and asking for this costs less than a lease that serves one request.
      if ((functions.isTight(ownerId) || bytes.isTight(ownerId)) && (await isThere())) return;
      await unlessThere(isThere, () => functions.take(ownerId, 1));
      await unlessThere(isThere, () => bytes.take(ownerId, code.length));
    },
    async reserveTaskGroup(ownerId, groupId) {
      const isOpen = (): Promise<boolean> => isOpenGroup(db, ownerId, groupId);
      const key = `${ownerId} ${groupId}`;
      // An open group needs no room, and asking for this costs less than a lease that serves one request.
      if (groups.isTight(ownerId) && (await isOpen())) return () => undefined;
      const entry = enteredGroups.get(key) ?? { requests: 0, isStored: false, room: groups.reserve(ownerId, 1, groupId) };
      enteredGroups.set(key, entry);
      entry.requests++;
      const leave = (): boolean => --entry.requests === 0 && enteredGroups.delete(key);
      let release: EndReservation;
      try {
        release = await entry.room;
      } catch (error) {
        leave();
        if (!(error instanceof TerminalError) || !(await isOpen())) throw error;
        return () => undefined;
      }
      return (isStored) => {
        entry.isStored ||= isStored;
        if (leave()) release(entry.isStored);
      };
    },
    reserveBytes: (ownerId, more) => bytes.reserve(ownerId, more),
    enterSocket: (ownerId) => sockets.enter(ownerId),
    followGroup(ownerId) {
      const leave = followed.enter(ownerId);
      let leaveUnknown: (() => void) | undefined;
      const setKnown = (isKnown: boolean): void => {
        if (!isKnown) {
          leaveUnknown ??= unknown.enter(ownerId);
          return;
        }
        leaveUnknown?.();
        leaveUnknown = undefined;
      };
      return {
        setKnown,
        leave() {
          setKnown(true);
          leave();
        },
      };
    },
    async usage(ownerId) {
      const stored = NAMES.map(async (name) => ({ name, used: await countOf(db, ownerId, name), limit: limits[name] }));
      const open = { name: 'result_sockets' as const, used: sockets.of(ownerId), limit: maxSockets };
      return [...(await Promise.all(stored)), open];
    },
  };
}

/** Counts what each owner has open in this process. `what`: what the refusal says of them. */
function countOpen(limit: number, what: string): { of(ownerId: string): number; enter(ownerId: string): () => void } {
  const counts = new Map<string, number>();
  const of = (ownerId: string): number => counts.get(ownerId) ?? 0;
  return {
    of,
    enter(ownerId) {
      const open = of(ownerId);
      if (open >= limit) {
        throw new TerminalError('LIMIT_EXCEEDED', `You have ${open} of at most ${limit} ${what}.`, {
          retryAfterS: SOCKET_RETRY_AFTER_S,
        });
      }
      counts.set(ownerId, open + 1);
      return () => {
        const left = of(ownerId) - 1;
        if (left === 0) counts.delete(ownerId);
        else counts.set(ownerId, left);
      };
    },
  };
}
