import { createServer } from 'node:http';
import { connect, type Socket } from 'node:net';

import { WebSocketServer } from 'ws';

import type { Identity } from '../../platform/access';
import type { Identities } from '../../platform/identities';
import { bearerToken } from '../middleware/authenticate';
import { serveListener, type ListenerDeps, type SocketListener } from './socket-listener';

/** The WebSocket by which SDK 1.0.0 to 1.0.4 reads results (protocol/funcx-1.0, section 6). A port of its own. */
export interface ResultsSocket {
  listen(): Promise<void>;
  /** No new connections; the living ones go on. At once, so that a successor can listen. */
  stopAccepting(): void;
  /** Sends everybody away as soon as a successor listens, at the latest after this time; resolves when all are gone. */
  handOver(successorWithinMs: number): Promise<void>;
}

export interface ResultsSocketOptions extends ListenerDeps {
  host: string;
  port: number;
  identities: Identities;
}

const PATH = /^\/v2\/?(?:\?|$)/;
/** Ids of task groups are short. */
const MAX_MESSAGE_BYTES = 4_096;
const LOOK_MS = 50;

export function createResultsSocket(options: ResultsSocketOptions): ResultsSocket {
  const { host, port, identities, log } = options;
  const listeners = new Set<SocketListener>();
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
    sockets.handleUpgrade(request, socket, head, (client) => {
      // Whoever may not listen is told so on the open connection: a refused handshake leaves futures hanging.
      const identity = identify(request.headers.authorization);
      identity.catch(() => undefined); // the listener tells the client
      const listener = serveListener(client, identity, options);
      listeners.add(listener);
      client.once('close', () => listeners.delete(listener));
    });
  });

  async function identify(authorization: string | undefined): Promise<Identity | undefined> {
    return authorization === undefined ? undefined : identities.authenticate(bearerToken(authorization));
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
      // Clients connect again at once and only once: somebody must listen before they are told to go.
      const deadline = Date.now() + successorWithinMs;
      while (listeners.size > 0 && Date.now() < deadline && !(await accepts(host, port))) {
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
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
