import { readFileSync } from 'node:fs';
import { createServer, request as requestHttp, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Agent, request as requestHttps } from 'node:https';
import { rootCertificates } from 'node:tls';

import { InvalidArgumentError } from 'commander';

import { UserError } from '../local/machine/user-error';

import type { Command } from 'commander';

/** Forwards http://localhost:5000, which the stock SDK always uses, to a service elsewhere: with TLS, or --insecure-http. */

const DEFAULT_PORT = 5_000;
const HOST = '127.0.0.1';
/** Headers that are about one connection (RFC 9110, section 7.6.1), so they are not forwarded. */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade']);

interface ConnectOptions {
  port: number;
  ca?: string;
  insecureHttp?: boolean;
}

export function addConnectCommand(program: Command): void {
  program
    .command('connect')
    .argument('<service>', 'address of the service, such as https://funcx.example')
    .description(`let clients on this machine reach a service elsewhere at http://localhost:${DEFAULT_PORT}`)
    .option('--port <port>', 'listen here instead; the stock clients know only the default', parsePort, DEFAULT_PORT)
    .option('--ca <file>', 'PEM file of the authority that signed its certificate (default: FUNCX_CA, and the public ones)')
    .option('--insecure-http', 'take an http:// address that is not on this machine: tokens travel in clear')
    .action((service: string, options: ConnectOptions) => connect(service, options));
}

async function connect(service: string, options: ConnectOptions): Promise<void> {
  const target = readAddress(service, options.insecureHttp === true);
  const forwarder = createForwarder(target, readAuthority(options.ca ?? process.env.FUNCX_CA));
  await checkService(target, forwarder);
  await listen(forwarder.server, options.port);
  process.stdout.write(
    `Clients on this machine now reach ${target.origin} at http://localhost:${options.port}. Their settings:\n` +
      `export GLOBUS_SDK_ENVIRONMENT=local\n` +
      `export GLOBUS_SDK_SERVICE_URL_AUTH=http://localhost:${options.port}/\n` +
      `export FUNCX_API_URL=http://localhost:${options.port}\n` +
      `# and your own GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET. Ctrl-C ends this.\n`,
  );
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
  forwarder.close();
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port < 1 || port > 65_535) throw new InvalidArgumentError('a port is a number from 1 to 65535.');
  return port;
}

function readAddress(text: string, isHttpTaken: boolean): URL {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new UserError(`"${text}" is not an address; give one such as https://funcx.example.`);
  }
  const isHere = ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
  if (url.protocol === 'https:' || (url.protocol === 'http:' && (isHere || isHttpTaken))) return url;
  throw new UserError(`${text} would carry tokens in clear; use https://, or --insecure-http where the network is your own.`);
}

function readAuthority(file: string | undefined): string | undefined {
  if (file === undefined || file === '') return undefined;
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new UserError(`The authority ${file} cannot be read; give the service's CA as a PEM file.`, { cause });
  }
}

export interface Forwarder {
  server: Server;
  /** Sends one GET request of its own. Resolves to the status. */
  ask(path: string): Promise<number>;
  close(): void;
}

export function createForwarder(target: URL, authority: string | undefined): Forwarder {
  const agent = new Agent({
    keepAlive: true,
    ...(authority === undefined ? {} : { ca: [...rootCertificates, authority] }),
  });
  const isTls = target.protocol === 'https:';
  const base = target.pathname.replace(/\/$/, '');

  function open(method: string, path: string, headers: Record<string, string | string[]>): ReturnType<typeof requestHttp> {
    const options = { method, path: base + path, headers: { ...headers, host: target.host } };
    return isTls ? requestHttps(target, { ...options, agent }) : requestHttp(target, options);
  }

  const server = createServer((incoming, outgoing) => {
    const upstream = open(incoming.method ?? 'GET', pathOf(incoming), passedOn(incoming));
    upstream.on('response', (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, passedOn(answer));
      answer.pipe(outgoing);
      answer.on('error', () => outgoing.destroy());
    });
    upstream.on('error', (error) => refuse(outgoing, target, error));
    // When a client disconnects, its request is aborted as well, so that the service knows that nobody read the answer.
    outgoing.on('close', () => upstream.destroy());
    incoming.pipe(upstream);
  });
  server.requestTimeout = 0; // the service has its own limits

  return {
    server,
    ask: (path) =>
      new Promise((resolve, reject) => {
        open('GET', path, {})
          .on('response', (answer) => {
            answer.resume();
            resolve(answer.statusCode ?? 0);
          })
          .on('error', reject)
          .end();
      }),
    close() {
      server.close();
      server.closeAllConnections();
      agent.destroy();
    },
  };
}

/** A client that uses the forwarder as its HTTP proxy sends the whole URL in place of the path. */
const pathOf = (incoming: IncomingMessage): string => {
  const path = (incoming.url ?? '/').replace(/^https?:\/\/[^/?#]*/i, '');
  return path.startsWith('/') ? path : `/${path}`;
};

function passedOn(message: IncomingMessage): Record<string, string | string[]> {
  return Object.fromEntries(
    Object.entries(message.headers).flatMap(([name, value]) =>
      value === undefined || HOP_BY_HOP.has(name) ? [] : [[name, value]],
    ),
  );
}

/** Responds with 502 and the error fields of the service: the clients retry, and show the message when they give up. */
function refuse(outgoing: ServerResponse, target: URL, error: Error): void {
  if (outgoing.headersSent || outgoing.destroyed) {
    outgoing.destroy();
    return;
  }
  const message = `${target.origin} does not answer: ${error.message}`;
  outgoing.writeHead(502, { 'content-type': 'application/json' });
  outgoing.end(JSON.stringify({ code: 'UNAVAILABLE', message }));
}

async function checkService(target: URL, forwarder: Forwarder): Promise<void> {
  let status: number;
  try {
    status = await forwarder.ask('/v2/version?service=all');
  } catch (cause) {
    forwarder.close();
    const reason = cause instanceof Error ? cause.message : String(cause);
    const isTls = /certificate|self-signed|altnames|issuer/i.test(reason);
    const advice = isTls ? 'give its authority with --ca' : 'check the address and that it runs';
    throw new UserError(`${target.origin} cannot be reached (${reason}); ${advice}.`, { cause });
  }
  if (status === 200) return;
  forwarder.close();
  throw new UserError(`${target.origin} answers, but not as this service does (status ${status}); check the address.`);
}

async function listen(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const isBusy = error.code === 'EADDRINUSE';
      reject(isBusy ? new UserError(`Port ${port} is in use; end what listens there, or choose another with --port.`) : error);
    });
    server.listen(port, HOST, resolve);
  });
}
