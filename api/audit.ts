import { randomUUID } from 'node:crypto';

import type { RequestHandler } from 'express';

import { ERROR_CATALOGUE, type ErrorCode } from '../contracts/errors';
import type { AuditEntry } from '../contracts/http/v1-identities';
import type { Identity } from '../platform/access';
import type { Logger } from '../platform/log';
import type { Database } from '../platform/store/database';
import { deleteOldAuditEntries, insertAuditEntries } from '../platform/store/audit';
import { requestIdOf } from './middleware/request-id';
import type { RouteDescription } from './route';

/**
 * The audit log: who changed which object, from where, and which requests were refused. Each entry is one line of the process's
 * log and one row of the store, without bodies, queries or secrets. Reads, and the routes in {@link FREQUENT}, are recorded only
 * if they are refused. The store keeps each accepted submission with its owner.
 */
export interface Audit {
  /** Records the changes that requests of this route make, and their refusals. */
  watch(route: RouteDescription): RequestHandler;
  /** Records a refusal that is not the response to a request, such as a refusal on an open connection. */
  recordRefusal(refusal: Refusal): void;
  flush(): Promise<void>;
  close(): Promise<void>;
}

export interface Refusal {
  identity: Pick<Identity, 'id' | 'name'> | undefined;
  action: string;
  address: string | null;
  code: ErrorCode;
  objects?: Record<string, string>;
}

const FLUSH_MS = 1_000;
/** With this many entries in memory, new refusals are dropped, so that a flood of them cannot fill the memory. */
const MAX_WAITING = 2_000;
/** With this many entries in memory, changes are dropped too. A warning in the log counts the dropped entries. */
const MAX_CHANGES_WAITING = 20_000;
const CLEAN_MS = 3_600_000;
const REFUSED = new Set([400, 401, 403, 404, 408, 409, 413, 415, 422, 423, 429]);
/** Routes whose allowed requests are not recorded: they are frequent and harmless. */
const FREQUENT = new Set(['/v2/submit', '/v3/endpoints/:id/submit', '/v2/batch_status', '/v2/oauth2/token']);

export function createAudit(db: Database, log: Logger, days: number): Audit {
  let waiting: AuditEntry[] = [];
  let dropped = 0;
  let cleanedAtMs = 0;
  let flushing: Promise<void> = Promise.resolve();

  async function write(): Promise<void> {
    if (dropped > 0) {
      log.warn({ dropped }, 'the audit log dropped entries: too many were waiting for the store');
      dropped = 0;
    }
    const entries = waiting;
    waiting = [];
    try {
      if (entries.length > 0) await insertAuditEntries(db, entries);
    } catch (error) {
      waiting = [...entries, ...waiting];
      const excess = Math.max(0, waiting.length - MAX_CHANGES_WAITING);
      waiting.splice(0, excess);
      dropped += excess;
      log.warn({ err: error, waiting: waiting.length }, 'could not store entries of the audit log; trying again');
    }
  }
  async function clean(): Promise<void> {
    if (Date.now() - cleanedAtMs < CLEAN_MS) return;
    cleanedAtMs = Date.now();
    try {
      await deleteOldAuditEntries(db, days);
    } catch (error) {
      log.warn({ err: error }, 'could not delete old entries of the audit log; the next try is in an hour');
    }
  }
  const flush = (): Promise<void> => (flushing = flushing.then(write).then(clean));
  const timer = setInterval(() => void flush(), FLUSH_MS);
  timer.unref();

  function add(entry: AuditEntry): void {
    if (waiting.length >= (entry.outcome === 'refused' ? MAX_WAITING : MAX_CHANGES_WAITING)) {
      dropped++;
      return;
    }
    waiting.push(entry);
    log.info({ audit: entry }, 'audit');
  }

  return {
    recordRefusal({ identity, action, address, code, objects = {} }) {
      add({
        at: new Date().toISOString(),
        identity: identity?.id ?? null,
        name: identity?.name ?? null,
        action,
        objects,
        address,
        outcome: 'refused',
        status: ERROR_CATALOGUE[code].status,
        code,
        request_id: randomUUID(),
      });
    },
    watch: ({ method, path, access }) =>
      function auditRequest(req, res, next) {
        const objects = Object.fromEntries(
          Object.entries(req.params).map(([name, value]) => [name, String(value).slice(0, 200)]),
        );
        const address = req.socket.remoteAddress ?? null; // known only while the connection is open
        const record = (): void => {
          const isRefused = REFUSED.has(res.statusCode);
          const isChange = method !== 'get' && access !== 'attempt-token' && !FREQUENT.has(path) && res.statusCode < 300;
          if (!isRefused && !isChange) return;
          const identity = res.locals.identity as Identity | undefined;
          const code: unknown = res.locals.errorCode;
          add({
            at: new Date().toISOString(),
            identity: identity?.id || null,
            name: identity?.name ?? null,
            action: `${method.toUpperCase()} ${path}`,
            objects,
            address,
            outcome: isRefused ? 'refused' : 'allowed',
            status: res.statusCode,
            ...(typeof code === 'string' ? { code } : {}),
            request_id: requestIdOf(res),
          });
        };
        // Do not wait for the event 'finish', which never comes if the caller disconnects: the log would miss the change.
        const end = res.end;
        res.end = function endRecorded(...args: unknown[]) {
          res.end = end;
          record();
          return Reflect.apply(end, res, args) as typeof res;
        } as typeof end;
        next();
      },
    flush,
    async close() {
      clearInterval(timer);
      await flush();
    },
  };
}
