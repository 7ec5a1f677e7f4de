import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createSecureServer, type Http2SecureServer } from 'node:http2';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'node:tls';

import { NativeConnection } from '@temporalio/worker';

import { startTemporal } from '../../local/engines/temporal';
import { cacheDirOf, layoutOf, makeFolders } from '../../local/machine/layout';
import { anyFreePort, DEFAULT_PORTS } from '../../local/machine/ports';
import type { ManagedProcess } from '../../local/processes/managed-process';
import { ProcessRegistry } from '../../local/processes/process-registry';
import { temporalConnectionOptions } from '../../platform/temporal-connection';
import { configFor } from '../helpers/api-harness';

/** The connection to a Temporal server that asks for a certificate or a key. */

const NO_OPENSSL = spawnSync('openssl', ['version']).status === 0 ? undefined : 'the program openssl is missing';
const dir = mkdtempSync(join(tmpdir(), 'funcx-temporal-tls-'));
const file = (name: string): string => join(dir, name);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function makeCertificates(): void {
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe', cwd: dir });
  const key = (name: string): string[] => [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    `${name}.key`,
  ];
  openssl('req', '-x509', ...key('ca'), '-subj', '/CN=test authority', '-days', '2', '-out', 'ca.pem');
  for (const name of ['server', 'client']) {
    writeFileSync(file('ext'), `subjectAltName=DNS:temporal.example\nextendedKeyUsage=${name}Auth\n`);
    openssl('req', '-new', ...key(name), '-subj', `/CN=${name}`, '-out', `${name}.csr`);
    const signer = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'];
    openssl('x509', '-req', '-in', `${name}.csr`, ...signer, '-days', '2', '-extfile', 'ext', '-out', `${name}.pem`);
  }
}

const serverFiles = (): { key: Buffer; cert: Buffer } => ({
  key: readFileSync(file('server.key')),
  cert: readFileSync(file('server.pem')),
});

(NO_OPENSSL === undefined ? describe : describe.skip)('a Temporal server behind mutual TLS', () => {
  let temporal: ManagedProcess;
  let front: Server;
  const sockets = new Set<{ destroy(): void }>();

  beforeAll(async () => {
    makeCertificates();
    const layout = layoutOf(join(dir, 'data'));
    makeFolders(layout);
    const [port, uiPort] = [await anyFreePort(new Set()), await anyFreePort(new Set())];
    temporal = await startTemporal({
      layout,
      cacheDir: cacheDirOf(layout),
      ports: { ...DEFAULT_PORTS, temporal: port, temporalUi: uiPort },
      registry: new ProcessRegistry(layout),
      say: () => undefined,
      signal: new AbortController().signal,
      onChange: () => undefined,
    });
    const options = { ...serverFiles(), ca: readFileSync(file('ca.pem')), requestCert: true, ALPNProtocols: ['h2'] };
    front = createServer(options, (near) => {
      const far = connect({ host: '127.0.0.1', port, noDelay: true });
      for (const socket of [near, far]) {
        sockets.add(socket);
        socket.on('error', () => undefined);
      }
      near.pipe(far).pipe(near);
    });
    front.on('tlsClientError', () => undefined);
    await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  }, 120_000);

  afterAll(async () => {
    for (const socket of sockets) socket.destroy();
    front.close();
    await temporal.stop();
  }, 60_000);

  const settings = (more: Record<string, string>): Record<string, string> => ({
    TEMPORAL_ADDRESS: `127.0.0.1:${(front.address() as AddressInfo).port}`,
    TEMPORAL_TLS_SERVER_CA_CERT_PATH: file('ca.pem'),
    TEMPORAL_TLS_SERVER_NAME: 'temporal.example',
    ...more,
  });
  const ask = async (more: Record<string, string>): Promise<unknown> => {
    const connection = await NativeConnection.connect(temporalConnectionOptions(configFor(settings(more))));
    try {
      return await connection.workflowService.getSystemInfo({});
    } finally {
      await connection.close();
    }
  };
  const client = (): Record<string, string> => ({
    TEMPORAL_TLS_CLIENT_CERT_PATH: file('client.pem'),
    TEMPORAL_TLS_CLIENT_KEY_PATH: file('client.key'),
  });

  test('answers the service that has a certificate, and nobody else', async () => {
    await expect(ask(client())).resolves.toHaveProperty('serverVersion');
    await expect(ask({})).rejects.toThrow();
    await expect(ask({ ...client(), TEMPORAL_TLS: '0' })).rejects.toThrow();
    await expect(ask({ ...client(), TEMPORAL_TLS_SERVER_NAME: 'other.example' })).rejects.toThrow();
  }, 60_000);

  test('gets an API key with every call', async () => {
    const keys: unknown[] = [];
    const server: Http2SecureServer = createSecureServer(serverFiles());
    server.on('stream', (stream, headers) => {
      keys.push(headers.authorization);
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(Buffer.alloc(5)); // an empty message
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    await ask({ TEMPORAL_ADDRESS: address, TEMPORAL_API_KEY: 'key-of-the-service' });
    server.close();
    expect(keys.length).toBeGreaterThan(0);
    expect(new Set(keys)).toEqual(new Set(['Bearer key-of-the-service']));
  }, 30_000);
});

test('an API key never leaves without TLS, and half a client certificate is refused by name', () => {
  expect(() => temporalConnectionOptions(configFor({ TEMPORAL_API_KEY: 'k', TEMPORAL_TLS: '0' }))).toThrow(
    'never sent without TLS',
  );
  expect(() => temporalConnectionOptions(configFor({ TEMPORAL_TLS_CLIENT_CERT_PATH: '/x' }))).toThrow('or neither');
  expect(temporalConnectionOptions(configFor({}))).toEqual({ address: '127.0.0.1:7233' });
});
