import { temporal } from '@temporalio/proto';
import type { NativeConnection } from '@temporalio/worker';

import { COUNT_ATTRIBUTE, SEARCH_ATTRIBUTE } from '../contracts/names';
import type { Logger } from './log';

/** Creates the service's search attributes on a Temporal server. */

const { INDEXED_VALUE_TYPE_KEYWORD, INDEXED_VALUE_TYPE_INT } = temporal.api.enums.v1.IndexedValueType;
/** In the order of importance: a namespace has room for a few attributes of each type, and others may use some of it. */
const WANTED = [
  ...Object.values(SEARCH_ATTRIBUTE).map((name) => ({ name, type: INDEXED_VALUE_TYPE_KEYWORD })),
  ...Object.values(COUNT_ATTRIBUTE).map((name) => ({ name, type: INDEXED_VALUE_TYPE_INT })),
];
type Wanted = (typeof WANTED)[number];
const LISTED_WITHIN_MS = 10_000;
const POLL_MS = 100;

/** Returns the names that the server knows; the log says why it refused the others. */
export async function ensureSearchAttributes(
  connection: NativeConnection,
  namespace: string,
  log: Logger,
): Promise<ReadonlySet<string>> {
  try {
    const missing = missingIn(await list(connection, namespace));
    if (missing.length > 0) await add(connection, namespace, missing, log);
    const known = await untilListed(connection, namespace, missing);
    return new Set(WANTED.filter((one) => known[one.name] === one.type).map(({ name }) => name));
  } catch (error) {
    log.warn({ reason: reasonOf(error) }, 'the Temporal server refused the search attributes; submissions run without them');
    return new Set();
  }
}

type Listed = Record<string, number>;

async function list(connection: NativeConnection, namespace: string): Promise<Listed> {
  const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
  return customAttributes;
}

const missingIn = (known: Listed): Wanted[] => WANTED.filter(({ name }) => !(name in known));

/** Adds all in one call. If the server refuses, adds them one by one, so that the server takes as many as it has room for. */
async function add(connection: NativeConnection, namespace: string, missing: Wanted[], log: Logger): Promise<void> {
  const send = (some: Wanted[]): Promise<unknown> =>
    connection.operatorService.addSearchAttributes({
      namespace,
      searchAttributes: Object.fromEntries(some.map(({ name, type }) => [name, type])),
    });
  try {
    await send(missing);
  } catch {
    for (const one of missing) {
      await send([one]).catch((error: unknown) => {
        if (/already exist/i.test(reasonOf(error))) return; // another process added it
        log.warn({ name: one.name, reason: reasonOf(error) }, 'the Temporal server refused a search attribute');
      });
    }
  }
}

/** The server caches the list and refuses starts with attributes that are not in its cache. */
async function untilListed(connection: NativeConnection, namespace: string, added: Wanted[]): Promise<Listed> {
  for (const deadline = Date.now() + LISTED_WITHIN_MS; ;) {
    const known = await list(connection, namespace);
    if (added.every(({ name }) => name in known) || Date.now() > deadline) return known;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
