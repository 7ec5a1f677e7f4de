import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';

import type { ChannelModel } from 'amqplib';

/**
 * Keeps a connection whose broker is silent for longer than the two heartbeat periods of amqplib. A broker that hangs for a while
 * and recovers still handles what is in its socket, and a message that is published again on a new connection reaches its queue
 * twice. The heartbeat period, which both sides share, may then be short, so that the broker soon drops a client that hangs.
 */
export function tolerateSilence(model: ChannelModel, maxMs: number): void {
  const { heartbeater, stream } = model.connection as unknown as {
    heartbeater: (EventEmitter & { interval: number }) | null;
    stream: Pick<Socket, 'bytesRead'>;
  };
  if (!heartbeater) return; // the broker wants no heartbeats
  const drops = heartbeater.listeners('timeout') as (() => void)[];
  heartbeater.removeAllListeners('timeout');
  const silentMs = 2 * heartbeater.interval * 1_000;
  let [bytesRead, sinceMs] = [-1, 0];
  // Emitted in each period after two periods of silence.
  heartbeater.on('timeout', () => {
    const now = performance.now();
    if (stream.bytesRead !== bytesRead) [bytesRead, sinceMs] = [stream.bytesRead, now - silentMs];
    if (now - sinceMs >= maxMs) for (const drop of drops) drop();
  });
}
