import { spawn } from 'node:child_process';
import { timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls';

import { FIRST_DESCRIPTOR } from './own-network';
import { authorizationOf, UI_USER } from './temporal-access';

import type { GuardSettings } from './temporal-access';

/**
 * Runs the Temporal development server, which has no login, where nobody else can reach it. Accepts only clients that present
 * the client certificate (gRPC) or the password (UI). This program starts in its own network namespace, with two listening
 * sockets of the machine's loopback. Its only argument is {@link GuardSettings} as JSON.
 */
const INSIDE = '127.0.0.1';
const SAY_REFUSED_EVERY_MS = 10_000;
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);
/** Values of `Sec-Fetch-Site`. A page of another origin must not make changes with the password that the browser keeps. */
const OWN_PAGES = new Set<unknown>([undefined, 'same-origin', 'none']);

/** TLS for gRPC: refuses a connection without a certificate of the system's authority. */
function grpcFront({ tls, port }: GuardSettings): TlsServer {
  const files = { key: readFileSync(tls.key), cert: readFileSync(tls.certificate), ca: readFileSync(tls.authority) };
  const server = createTlsServer({ ...files, requestCert: true, rejectUnauthorized: true, ALPNProtocols: ['h2'] }, (near) => {
    near.setNoDelay(true);
    join(near, connect({ host: INSIDE, port, noDelay: true }));
  });
  let refused = 0;
  let saidAtMs = 0;
  // A failed handshake affects only that client. A client that keeps trying must not fill the log.
  return server.on('tlsClientError', (error, socket) => {
    socket.destroy();
    refused++;
    if (Date.now() - saidAtMs < SAY_REFUSED_EVERY_MS) return;
    process.stderr.write(`connections refused: ${refused}; the last one: ${error.message.trim()}\n`);
    saidAtMs = Date.now();
  });
}

function join(near: Socket, far: Socket): void {
  near.pipe(far);
  far.pipe(near);
  near.on('error', () => far.destroy()).on('close', () => far.destroy());
  far.on('error', () => near.destroy()).on('close', () => near.destroy());
}

/** HTTP Basic for the UI, as for RabbitMQ's management. Unlike a cookie, browsers send the password only to this port. */
function uiFront({ uiPort, passwordFile }: GuardSettings): Server {
  const expected = Buffer.from(authorizationOf(passwordFile));
  return createServer((asked, answer) => {
    const given = Buffer.from(asked.headers.authorization ?? '');
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
      answer.writeHead(401, { 'www-authenticate': 'Basic realm="Temporal UI"', 'cache-control': 'no-store' });
      answer.end(`The user is ${UI_USER}; the password is in ${passwordFile}.\n`);
      return;
    }
    const site = asked.headers['sec-fetch-site'];
    if (!SAFE_METHODS.has(asked.method ?? '') && !OWN_PAGES.has(site)) {
      answer.writeHead(403).end('Only pages of the Temporal UI may change something.\n');
      return;
    }
    forward(asked, answer, uiPort);
  });
}

function forward(asked: IncomingMessage, answer: ServerResponse, port: number): void {
  const { authorization: _, ...headers } = asked.headers;
  const inner = request({ host: INSIDE, port, method: asked.method, path: asked.url, headers }, (answered) => {
    answer.writeHead(answered.statusCode ?? 502, answered.headers);
    answered.pipe(answer);
  });
  inner.on('error', (error) => {
    if (!answer.headersSent) answer.writeHead(502);
    answer.end(`The Temporal UI does not answer: ${error.message}\n`);
  });
  answer.on('close', () => inner.destroy());
  asked.pipe(inner);
}

function main(settings: GuardSettings): void {
  grpcFront(settings).listen({ fd: FIRST_DESCRIPTOR });
  uiFront(settings).listen({ fd: FIRST_DESCRIPTOR + 1 });
  const server = spawn(settings.command, settings.args, { stdio: 'inherit' });
  server.once('error', (error) => {
    process.stderr.write(`${settings.command}: ${error.message}\n`);
    process.exit(1);
  });
  server.once('exit', (code) => process.exit(code ?? 1));
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => server.kill(signal));
}

main(JSON.parse(process.argv[2] ?? '{}') as GuardSettings);
