import { createServer, type Server } from 'node:http';

import { register } from 'prom-client';

import type { EngineState } from '../platform/health';

/** Serves /healthz, /readyz and /metrics. Only administrators may read metrics: queue names and counts tell about tenants. */
export async function startHealthServer(
  address: { host: string; port: number },
  readiness: () => Promise<Record<string, EngineState>>,
  isAdministrator: (token: string) => Promise<boolean>,
  /** Called when the metrics were requested without the token of an administrator, for the audit log. */
  onRefused: (address: string | undefined) => void,
): Promise<Server> {
  const server = createServer((request, response) => {
    void (async () => {
      const reply = (status: number, body: unknown): void => {
        response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
      };
      if (request.url === '/healthz') return reply(200, { status: 'ok' });
      if (request.url === '/metrics') {
        const token = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1];
        if (token === undefined || !(await isAdministrator(token))) {
          onRefused(request.socket.remoteAddress);
          response.setHeader('www-authenticate', 'Bearer');
          return reply(401, {
            code: 'UNAUTHENTICATED',
            message: 'Metrics need the access token of an administrator: send "Authorization: Bearer <token>".',
          });
        }
        response.writeHead(200, { 'content-type': register.contentType }).end(await register.metrics());
        return;
      }
      if (request.url !== '/readyz') return reply(404, { code: 'NOT_FOUND', message: 'Use /healthz, /readyz or /metrics.' });
      const engines = await readiness();
      const ready = Object.values(engines).every((engine) => engine.ok);
      return reply(ready ? 200 : 503, { ready, engines });
    })().catch((error: unknown) => {
      response.writeHead(500).end(String(error));
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(address.port, address.host, resolve);
  });
  return server;
}
