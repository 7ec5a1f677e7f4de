import { randomUUID } from 'node:crypto';

import { allRoutes } from '../../api/app';
import type { ApiDeps } from '../../api/deps';
import { createAudit } from '../../api/audit';
import { createQuotas } from '../../accepting/quotas';
import { createIdentities } from '../../platform/identities';
import { createLogger } from '../../platform/log';
import { configFor, person, startApi, type ApiHarness } from '../helpers/api-harness';
import { MUTATIONS, pick, randomFrom, SEED, type Random } from '../helpers/mutations';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

/**
 * Mutated requests to every route: FUNCX_MUTATIONS of them (default 400; `npm run test:security` sends 10,000), from a seed
 * that is printed and that FUNCX_SEED repeats.
 */

const BATCH_LIMIT = 16;
const MARK = 'only-alice-may-read-this';

let postgres: ScratchPostgres;
let api: ApiHarness | undefined;
const known = { function: randomUUID(), endpoint: randomUUID() };

beforeAll(async () => {
  postgres = await startScratchPostgres();
  const identities = createIdentities(postgres.db);
  const alice = person('alice', { id: (await identities.create({ name: 'alice' })).id });
  const mallory = person('mallory', { id: (await identities.create({ name: 'mallory' })).id });
  await postgres.db.query(
    `insert into functions (id, owner_id, name, code, is_serialized) values ($1, $2, $3::text, convert_to($3::text, 'UTF8'), false)`,
    [known.function, alice.id, MARK],
  );
  await postgres.db.query(`insert into endpoints (id, owner_id, name, kind, display_name) values ($1, $2, 'e', 'agent', $3)`, [
    known.endpoint,
    alice.id,
    MARK,
  ]);
  const config = configFor();
  const audit = createAudit(postgres.db, createLogger('audit-test', 'silent'), 90);
  const quotas = createQuotas(postgres.db, config);
  const authenticate = async (token: string) => [alice, mallory].find(({ name }) => token === `token-${name}`);
  api = await startApi({ db: postgres.db, config, deps: { audit, quotas, identities: { ...identities, authenticate } } });
}, 120_000);
afterAll(async () => {
  await api?.close();
  await postgres?.stop();
}, 60_000);

const STRINGS = [
  '',
  'x',
  '\u0000',
  '\ud800',
  "' or 1=1 --",
  '../../etc/passwd',
  '%00',
  '%',
  '\n\r\nX: y',
  '9'.repeat(400),
  'é'.repeat(5_000),
  '__proto__',
  'constructor',
  '2026-13-45T99:99:99Z',
  '4\nst\nf',
  '-1',
  'NaN',
  '1e999',
  '[]',
  '{"a":',
];
const VALUES: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  1.5,
  2 ** 53,
  1e308,
  [],
  {},
  [[[[[[]]]]]],
  { __proto__: 1, a: { b: null } },
  ...STRINGS,
];
const FIELDS = [
  ...['name', 'function_name', 'function_code', 'serialized', 'public', 'group', 'tasks', 'endpoint_id', 'task_group_id', 'args'],
  ...[
    'task_ids',
    'incarnation',
    'workers',
    'metadata',
    'definition',
    'input_schema',
    'body',
    'title',
    'schedule',
    'cron',
    'every',
  ],
  ...[
    'policy',
    'grant_type',
    'scope',
    'code',
    'client_id',
    'token',
    'create_queue',
    'user_endpoint_config',
    'identity',
    'functions',
  ],
  ...['endpoint_name', 'container_uuid', 'description', 'meta', 'function_id', 'payload', 'version', 'namespace', 'kwargs'],
];

function mutant(random: Random, depth = 0): unknown {
  if (depth > 3 || random() < 0.4) return pick(random, [...VALUES, known.function, known.endpoint, randomUUID()]);
  if (random() < 0.3) return Array.from({ length: Math.floor(random() * 4) }, () => mutant(random, depth + 1));
  return Object.fromEntries(
    Array.from({ length: 1 + Math.floor(random() * 6) }, () => [pick(random, FIELDS), mutant(random, depth + 1)]),
  );
}

interface Attempt {
  method: string;
  path: string;
  headers: Record<string, string>;
  body?: string | Buffer;
}

function attempt(random: Random, route: { method: string; path: string; bodyKind: string }): Attempt {
  const path = route.path.replace(/:\w+/g, () =>
    encodeURIComponent(
      pick(random, [known.function, known.endpoint, randomUUID(), ...STRINGS.filter((text) => text !== '\ud800')]),
    ),
  );
  const names = ['after', 'limit', 'name', 'role', 'attempt', 'before', 'marker', 'per_page', 'filter', 'orderby'];
  const query = new URLSearchParams();
  while (random() < 0.3) query.append(pick(random, names), pick(random, STRINGS));
  const headers: Record<string, string> = {};
  const token = pick(random, [
    'Bearer token-mallory',
    'Bearer token-mallory',
    'Bearer token-mallory',
    'Bearer x',
    'Basic Og==',
    '',
  ]);
  if (token !== '') headers.authorization = token;
  if (random() < 0.1) headers['content-encoding'] = pick(random, ['gzip', 'br', 'deflate', 'x', 'gzip, gzip']);
  if (random() < 0.1) headers['idempotency-key'] = pick(random, ['', 'k', 'k'.repeat(500)]);
  headers['content-type'] = pick(random, [
    'application/json',
    'application/json',
    'application/json',
    'text/plain',
    'a/b; charset=utf-16',
  ]);
  if (route.method === 'get') return { method: 'GET', path: `${path}?${query.toString()}`, headers };
  let body = Buffer.from(JSON.stringify(mutant(random)) ?? 'null');
  if (route.bodyKind === 'form')
    body = Buffer.from(new URLSearchParams({ [pick(random, FIELDS)]: pick(random, STRINGS) }).toString());
  if (random() < 0.2 && body.length > 0) body[Math.floor(random() * body.length)] = Math.floor(random() * 256);
  if (random() < 0.05) body = body.subarray(0, Math.floor(random() * body.length));
  return { method: route.method.toUpperCase(), path: `${path}?${query.toString()}`, headers, body };
}

/** The status and the text of a response; streams are left after their first second. */
async function send({ method, path, headers, body }: Attempt): Promise<{ status: number; text: string }> {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), path.includes('/events') ? 1_000 : 30_000);
  let status = 0;
  try {
    const response = await fetch((api?.url ?? '') + path, {
      method,
      headers,
      body: body as string | undefined,
      signal: stop.signal,
    });
    status = response.status;
    return { status, text: await response.text() };
  } catch (error) {
    if (stop.signal.aborted && path.includes('/events')) return { status, text: '' };
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

test(`${MUTATIONS} mutated requests: no crash, no 500, nothing of another tenant (seed in the output)`, async () => {
  process.stdout.write(`mutated requests: FUNCX_SEED=${SEED} FUNCX_MUTATIONS=${MUTATIONS}\n`);
  const routes = allRoutes({ config: configFor() } as ApiDeps);
  const random = randomFrom(SEED);
  const statuses = new Map<number, number>();
  const wrong: unknown[] = [];
  const rssBefore = process.memoryUsage().rss;
  for (let sent = 0; sent < MUTATIONS; sent += BATCH_LIMIT) {
    const attempts = Array.from({ length: BATCH_LIMIT }, () => attempt(random, pick(random, routes)));
    const answers = await Promise.all(attempts.map(send));
    answers.forEach(({ status, text }, index) => {
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      const { method, path } = attempts[index]!; // one answer for each
      if (status === 500 || text.includes(MARK))
        wrong.push({ method, path: path.slice(0, 200), status, text: text.slice(0, 300) });
    });
  }
  expect(wrong).toEqual([]);
  // The requests reach the handlers, and not only the door.
  expect((statuses.get(200) ?? 0) + (statuses.get(201) ?? 0)).toBeGreaterThan(MUTATIONS / 100);
  expect(statuses.get(422) ?? 0).toBeGreaterThan(MUTATIONS / 20);
  expect((process.memoryUsage().rss - rssBefore) / 2 ** 20).toBeLessThan(400);
  expect((await api?.request(undefined, 'GET', '/healthz'))?.status).toBe(200);
}, 600_000);
