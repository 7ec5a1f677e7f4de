import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { parse } from 'yaml';

import { allRoutes } from '../../api/app';
import type { ApiDeps } from '../../api/deps';
import { readConfig as readAgentConfig } from '../../endpoint/config';
import { DEFAULT_PORTS } from '../../local/machine/ports';
import { configSchema } from '../../platform/config';
import { configFor } from '../helpers/api-harness';
import { ROOT } from '../helpers/readme';

/** docker-compose.yml and the Dockerfile, checked against the code: what no container is needed to know. */

interface Service {
  image: string;
  build?: { context: string; dockerfile?: string; target: string };
  command?: string[];
  /** Null: passed on from .env when it is set there. */
  environment?: Record<string, string | null>;
  ports?: string[];
  volumes?: string[];
  network_mode?: string;
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
}

const text = readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8');
const dockerfile = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');
const compose = parse(text, { merge: true }) as { services: Record<string, Service>; volumes: Record<string, unknown> };
const services = Object.entries(compose.services);
const ours = ['api', 'workers'] as const;

/** A checkout in which make-env.sh has run. */
const prepared = mkdtempSync(join(tmpdir(), 'funcx-compose-'));
const made: Record<string, string> = {};

beforeAll(() => {
  cpSync(join(ROOT, 'deploy'), join(prepared, 'deploy'), {
    recursive: true,
    filter: (path) => !/deploy\/(tls|secrets)/.test(path),
  });
  const { status, stderr } = makeEnv();
  if (status !== 0) throw new Error(stderr);
  for (const line of readFileSync(join(prepared, '.env'), 'utf8').trim().split('\n')) {
    const [name = '', value = ''] = line.split('=');
    made[name] = value;
  }
});

afterAll(() => rmSync(prepared, { recursive: true, force: true }));

function makeEnv() {
  return spawnSync('sh', [join(prepared, 'deploy', 'make-env.sh'), 'funcx.example.org'], { encoding: 'utf8' });
}

/** Compose's own substitution, with what make-env.sh wrote. */
function substituted(value: string): string {
  return value.replace(
    /\$\{(\w+)(?::([-?])([^}]*))?\}/g,
    (_, name: string, kind: string | undefined, rest: string | undefined) => {
      const known = made[name];
      if (known !== undefined) return known;
      if (kind === '-') return rest ?? '';
      throw new Error(`${name} is needed and make-env.sh does not make it`);
    },
  );
}

function environmentOf(name: string): Record<string, string> {
  const entries = Object.entries(compose.services[name]?.environment ?? {});
  return Object.fromEntries(entries.flatMap(([key, value]) => (value === null ? [] : [[key, substituted(String(value))]])));
}

describe('docker-compose.yml', () => {
  test('every build has its Dockerfile, its target, and every source that is copied', () => {
    const stages = new Set([...dockerfile.matchAll(/^FROM \S+ AS (\w+)/gm)].map((match) => match[1]));
    const built = services.filter(([, service]) => service.build);
    expect(built.map(([name]) => name).sort()).toEqual(['api', 'endpoint', 'workers']);
    for (const [, { build }] of built) {
      expect(existsSync(join(ROOT, build!.context, build!.dockerfile ?? 'Dockerfile'))).toBe(true); // filtered: it has a build
      expect(stages).toContain(build!.target);
    }
    const sources = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap((match) => match[1]!.split(' '));
    expect(sources.length).toBeGreaterThan(10);
    expect(sources.filter((source) => !existsSync(join(ROOT, source)))).toEqual([]);
  });

  test('every room that the build compiles is copied into the image', () => {
    const notRooms = /NO_ROOMS = new Set\(\[([^\]]+)\]/.exec(readFileSync(join(ROOT, 'local', 'build.mjs'), 'utf8'))?.[1] ?? '';
    expect(notRooms).toContain("'node_modules'");
    const names = readdirSync(ROOT, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.') && !notRooms.includes(`'${entry.name}'`))
      .map(({ name }) => name);
    expect(names.length).toBeGreaterThan(5);
    for (const room of names) expect(dockerfile).toContain(`COPY ${room} ${room}\n`);
    const ignored = readFileSync(join(ROOT, '.dockerignore'), 'utf8').split('\n');
    expect(names.filter((room) => ignored.includes(room))).toEqual([]);
  });

  test.each(ours)('the environment of %s is known to the code and passes its schema', (name) => {
    const environment = environmentOf(name);
    const named = Object.keys(compose.services[name]?.environment ?? {});
    expect(named.filter((key) => !(key in configSchema.shape))).toEqual([]);
    const oidc = Object.keys(configSchema.shape).filter((key) => key.startsWith('FUNCX_OIDC_'));
    expect(named).toEqual(expect.arrayContaining(oidc));
    const config = configSchema.parse(environment);
    expect(config.AMQP_PUBLIC_URL).toBe('amqps://funcx.example.org:5671/funcx');
    expect(new URL(config.DATABASE_URL).password).toBe(made.POSTGRES_PASSWORD);
    expect(new URL(config.AMQP_URL).password).toBe(made.RABBITMQ_PASSWORD);
  });

  test('the environment of the endpoint passes the schema of the agent, and is the identity that the service makes', () => {
    const config = readAgentConfig(environmentOf('endpoint'));
    expect(config).toMatchObject({ apiUrl: 'http://api:5000', name: 'local', workers: 2 });
    const identity = JSON.parse(readFileSync(join(prepared, 'deploy', 'secrets', 'identity.json'), 'utf8')) as object;
    expect(identity).toEqual({ client_id: made.FUNCX_CLIENT_ID, client_secret: made.FUNCX_CLIENT_SECRET, name: 'admin' });
    const agent = JSON.parse(readFileSync(join(prepared, 'deploy', 'secrets', 'agent.json'), 'utf8')) as object;
    expect(agent).toEqual({
      client_id: made.AGENT_CLIENT_ID,
      client_secret: made.AGENT_CLIENT_SECRET,
      endpoint_id: made.AGENT_ENDPOINT_ID,
    });
    expect(made.AGENT_CLIENT_ID).not.toBe(made.FUNCX_CLIENT_ID);
  });

  test('addresses between containers name a service and a port on which it listens', () => {
    const { DATABASE_URL, AMQP_URL, AMQP_MANAGEMENT_URL, TEMPORAL_ADDRESS } = environmentOf('api');
    const listens: Record<string, number[]> = { postgres: [5432], rabbitmq: [5672, 5671, 15672], temporal: [7233], api: [5000] };
    for (const address of [DATABASE_URL, AMQP_URL, AMQP_MANAGEMENT_URL, `tcp://${TEMPORAL_ADDRESS}`]) {
      const { hostname, port } = new URL(address ?? '');
      expect(listens[hostname]).toContain(Number(port));
      expect(Object.keys(compose.services)).toContain(hostname);
    }
  });

  test('the ports are the defaults of "npm run up", and only the API, its WebSocket and AMQPS can be opened', () => {
    const published = services.flatMap(([, { ports = [] }]) => ports.map((port) => substituted(port)));
    const host = published.map((port) => Number(port.split(':')[1]));
    const { api, ws, temporal, temporalUi, amqp, amqps, management, postgres } = DEFAULT_PORTS;
    expect(host.sort()).toEqual([api, ws, temporal, temporalUi, amqp, amqps, management, postgres].sort());
    expect(published.filter((port) => !port.startsWith('127.0.0.1:'))).toEqual([]);
    const openable = services.flatMap(([, { ports = [] }]) => ports.filter((port) => port.startsWith('${BIND_ADDRESS:-')));
    expect(openable.map((port) => Number(port.split(':').at(-1))).sort()).toEqual([api, ws, amqps].sort());
  });

  test('every health check names a route or a command that exists', () => {
    const routes = allRoutes({ config: configFor() } as ApiDeps).map(({ path }) => path);
    const commands = new Set(['pg_isready', 'temporal', 'rabbitmq-diagnostics']); // of the engines' own images
    for (const [name, { healthcheck }] of services) {
      if (name === 'temporal-ui') continue; // nothing waits for it
      const [kind, command = '', script = '', address] = healthcheck?.test ?? [];
      expect([name, kind]).toEqual([name, 'CMD']);
      if (command !== 'node') {
        expect(commands).toContain(command);
        continue;
      }
      expect(existsSync(join(ROOT, script))).toBe(true);
      expect(dockerfile).toContain(`COPY ${script} deploy/`);
      if (address === undefined) continue;
      const { pathname, port } = new URL(address);
      expect(routes).toContain(pathname); // workers serve the same two
      expect(Number(port)).toBe(
        name === 'api' ? configSchema.shape.API_PORT.parse(undefined) : configSchema.shape.HEALTH_PORT.parse(undefined),
      );
    }
  });

  test('whoever waits for a healthy service waits for one that has a health check', () => {
    for (const [, { depends_on = {} }] of services) {
      for (const [other, { condition }] of Object.entries(depends_on)) {
        expect(condition).toBe('service_healthy');
        expect(compose.services[other]?.healthcheck).toBeDefined();
      }
    }
  });

  test('commands start programs that the build makes', () => {
    for (const name of ours) {
      const program = compose.services[name]?.command?.at(-1) ?? '';
      expect(existsSync(join(ROOT, program.replace(/^dist\//, '').replace(/\.js$/, '.ts')))).toBe(true);
    }
    expect(dockerfile).toContain('"dist/endpoint/main.js"');
  });

  test('every mounted file is in the repository or made by make-env.sh, and every volume is declared', () => {
    for (const volume of services.flatMap(([, { volumes = [] }]) => volumes)) {
      const [source = ''] = volume.split(':');
      if (source.startsWith('./')) expect([source, existsSync(join(prepared, source))]).toEqual([source, true]);
      else expect(Object.keys(compose.volumes)).toContain(source);
    }
    const [, target] = /^\s+- (?:endpoint):(\S+)$/m.exec(text) ?? [];
    expect(target).toBe(environmentOf('endpoint').FUNCX_ENDPOINT_DIR);
  });

  test('there is no default password: every secret comes from the environment, and its absence is a sentence', () => {
    for (const [, { environment = {} }] of services) {
      for (const [name, value] of Object.entries(environment)) {
        if (value === null) continue; // without it, the feature is off
        if (!/PASS|PWD|SECRET|TOKEN_KEY|DATABASE_URL|AMQP_URL|AMQP_MANAGEMENT_URL/.test(name)) continue;
        expect([name, value]).toEqual([name, expect.stringMatching(/\$\{\w+:\?run .+make-env\.sh first\}/)]);
      }
    }
    const values = Object.entries(made).filter(([name]) => /PASSWORD|KEY|SECRET/.test(name));
    expect(new Set(values.map(([, value]) => value)).size).toBe(values.length);
    for (const [, value] of values) expect(value).toMatch(/^[0-9a-f]{64}$/);
  });
});

describe('deploy/make-env.sh', () => {
  test('keeps secrets from others, and refuses to overwrite what it made', () => {
    const before = readFileSync(join(prepared, '.env'), 'utf8');
    expect(statSync(join(prepared, '.env')).mode & 0o077).toBe(0);
    for (const folder of ['tls', 'secrets']) expect(statSync(join(prepared, 'deploy', folder)).mode & 0o077).toBe(0);
    const again = makeEnv();
    expect(again.status).toBe(1);
    expect(again.stderr).toContain('There is a .env already');
    expect(readFileSync(join(prepared, '.env'), 'utf8')).toBe(before);
  });

  test('makes a certificate that its authority signed, for the host and for localhost', () => {
    const read = (name: string) => new X509Certificate(readFileSync(join(prepared, 'deploy', 'tls', name)));
    const [authority, server] = [read('ca.pem'), read('server.pem')];
    expect(authority.ca).toBe(true);
    expect(server.verify(authority.publicKey)).toBe(true);
    for (const name of ['funcx.example.org', 'localhost']) expect(server.checkHost(name)).toBe(name);
    expect(server.checkIP('127.0.0.1')).toBe('127.0.0.1');
  });
});
