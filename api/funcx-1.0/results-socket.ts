import { createServer } from 'node:http';
import { connect, type Socket } from 'node:net';

import { WebSocketServer, type WebSocket } from 'ws';

import type { Quotas } from '../../accepting/quotas';
import { TerminalError } from '../../contracts/errors';
import type { Identity } from '../../platform/access';
import type { Identities } from '../../platform/identities';
import type { Audit } from '../audit';
import { bearerToken } from '../middleware/authenticate';
import { endLater } from './client-timing';
import { serveListener, type ListenerDeps, type SocketListener } from './socket-listener';

/** The results WebSocket for SDK 1.0.0 to 1.0.4, on its own port (`funcx/sdk/asynchronous/ws_polling_task.py`). */
export interface ResultsSocket {
  listen(): Promise<void>;
  /** Stops listening so that a successor can listen; open connections stay. */
  stopAccepting(): void;
  /** Closes all connections as soon as a successor listens, or after this time. Resolves when all are closed. */
  handOver(successorWithinMs: number): Promise<void>;
}

export interface ResultsSocketOptions extends ListenerDeps {
  host: string;
  port: number;
  identities: Identities;
  quotas: Pick<Quotas, 'enterSocket' | 'followGroup'>;
  audit: Pick<Audit, 'recordRefusal'>;
}

/** Open connections of one address. Behind a proxy, all clients have one address. */
const MAX_PER_ADDRESS = 1_000;
const PATH = /^\/v2\/?(?:\?|$)/;
/** Clients send only task group IDs and tokens. */
const MAX_MESSAGE_BYTES = 4_096;
const POLL_INTERVAL_MS = 50;

export function createResultsSocket(options: ResultsSocketOptions): ResultsSocket {
  const { host, port, identities, log } = options;
  const listeners = new Set<SocketListener>();
  const perAddress = new Map<string, number>();
  const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE_BYTES, clientTracking: false });
  const server = createServer((_request, response) => {
    response.writeHead(426, { 'content-type': 'text/plain', connection: 'close' });
    response.end('This port takes WebSocket connections to /v2 only.\n');
  });

  server.on('upgrade', (request, socket: Socket, head) => {
    socket.setNoDelay(true);
    if (!PATH.test(request.url ?? '')) {
      socket.end('HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
      return;
    }
    const address = socket.remoteAddress ?? '';
    const open = perAddress.get(address) ?? 0;
    if (open >= MAX_PER_ADDRESS) {
      socket.end('HTTP/1.1 429 Too Many Requests\r\nretry-after: 10\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
      return;
    }
    perAddress.set(address, open + 1);
    socket.once('close', () => {
      const left = (perAddress.get(address) ?? 1) - 1;
      if (left === 0) perAddress.delete(address);
      else perAddress.set(address, left);
    });
    sockets.handleUpgrade(request, socket, head, (client) => {
      endLater(socket);
      // Accept the handshake and refuse on the open connection: a refused handshake leaves the client's futures pending.
      const identity = identify(client, request.headers.authorization);
      identity.catch(() => undefined); // The listener reports the failure to the client.
      const listener = serveListener(client, identity, options, (code, who, objects) =>
        options.audit.recordRefusal({ identity: who, action: 'results socket', address: address || null, code, objects }),
      );
      listeners.add(listener);
      client.once('close', () => listeners.delete(listener));
    });
  });

  async function identify(client: WebSocket, authorization: string | undefined): Promise<Identity | undefined> {
    if (authorization === undefined) return undefined;
    const identity = await identities.authenticate(bearerToken(authorization)).catch((error: unknown) => {
      if (error instanceof TerminalError) return undefined; // the listener refuses the client
      throw error;
    });
    if (!identity || identity.agentOf) return undefined; // an agent has no results to wait for
    const leave = options.quotas.enterSocket(identity.id);
    if (client.readyState === client.CLOSED) leave();
    else client.once('close', leave);
    return identity;
  }

  return {
    listen: () =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, host, () => {
          server.off('error', reject);
          server.on('error', (error) => log.error({ err: error }, 'the results socket failed'));
          resolve();
        });
      }),

    stopAccepting() {
      server.close();
    },

    async handOver(successorWithinMs) {
      // Clients reconnect immediately and only once, so a successor must listen before the connections close.
      const deadline = Date.now() + successorWithinMs;
      while (listeners.size > 0 && Date.now() < deadline && !(await accepts(host, port))) {
        await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
      }
      await Promise.all([...listeners].map((listener) => listener.stop()));
      await options.taken.flush();
    },
  };
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: host === '0.0.0.0' ? '127.0.0.1' : host, port });
    const settle = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => settle(true));
    socket.once('error', () => settle(false));
  });
}
