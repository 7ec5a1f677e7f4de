import { randomInt } from 'node:crypto';
import { connect, createServer } from 'node:net';

import { readJson, writeJson } from './files';

const HIGHEST_PORT = 65_535;
/** By default, Linux and macOS give outgoing connections higher ports, so they take no chosen port before its server listens. */
const QUIET_PORTS = [16_000, 32_000] as const;
const QUIET_TRIES = 100;
const CONNECT_MS = 500;

/** Names of a system's ports. The data folder keeps the chosen ports under these names. */
export const DEFAULT_PORTS = {
  api: 5000,
  ws: 6000,
  temporal: 7233,
  temporalUi: 8233,
  amqp: 5672,
  amqps: 5671,
  management: 15672,
  postgres: 5433,
  /** 0: any free port. Only our own processes use these three. */
  erlangDistribution: 0,
  epmd: 0,
  workersHealth: 0,
} as const;

export type PortName = keyof typeof DEFAULT_PORTS;
export type Ports = Record<PortName, number>;

export function readPorts(file: string): Partial<Ports> {
  const stored = readJson(file);
  return typeof stored === 'object' && stored !== null ? stored : {};
}

export function rememberPorts(file: string, ports: Ports): void {
  writeJson(file, ports, 0o644);
}

function tryToConnect(host: string, port: number, timeoutMs: number): Promise<'connected' | 'refused' | 'failed'> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const settle = (outcome: 'connected' | 'refused' | 'failed'): void => {
      socket.destroy();
      resolve(outcome);
    };
    socket.setTimeout(timeoutMs, () => settle('failed'));
    socket.once('connect', () => settle('connected'));
    socket.once('error', (error: NodeJS.ErrnoException) => settle(error.code === 'ECONNREFUSED' ? 'refused' : 'failed'));
  });
}

export async function accepts(host: string, port: number, timeoutMs = CONNECT_MS): Promise<boolean> {
  return (await tryToConnect(host, port, timeoutMs)) === 'connected';
}

/** True when nobody listens on this port. A process that listens but is stopped or busy refuses no connection. */
export async function refuses(host: string, port: number, timeoutMs = CONNECT_MS): Promise<boolean> {
  return (await tryToConnect(host, port, timeoutMs)) === 'refused';
}

function canListen(host: string, port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen({ host, port, exclusive: true }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' ? address?.port : undefined));
    });
  });
}

/** Also connects: on macOS, a wildcard and a loopback listener may share a port (AirPlay listens on *:5000 there). */
export async function isFree(port: number): Promise<boolean> {
  if ((await accepts('127.0.0.1', port)) || (await accepts('::1', port))) return false;
  return (await canListen('127.0.0.1', port)) !== undefined && (await canListen('0.0.0.0', port)) !== undefined;
}

/** Returns a free port at random, so that two systems that start together do not choose the same one. */
export async function anyFreePort(taken: ReadonlySet<number>): Promise<number> {
  for (let tries = 0; tries < QUIET_TRIES; tries++) {
    const port = randomInt(...QUIET_PORTS);
    if (!taken.has(port) && (await isFree(port))) return port;
  }
  for (;;) {
    const port = await canListen('127.0.0.1', 0);
    if (port !== undefined && !taken.has(port) && (await isFree(port))) return port;
  }
}

/** Returns the first free port from `first` upwards that is not in `taken`. With `first` 0, any free port. */
export async function nextFreePort(first: number, taken: ReadonlySet<number>): Promise<number> {
  for (let port = first; port !== 0 && port <= HIGHEST_PORT; port++) {
    if (!taken.has(port) && (await isFree(port))) return port;
  }
  return anyFreePort(taken);
}
