import type { Writable } from 'node:stream';

/**
 * Combines the writes of one turn of the event loop into one write. amqplib writes each frame separately; without Nagle's
 * algorithm, each write costs a system call here, and a packet and a wake-up at the broker. No write waits longer than the turn.
 */
export function coalesceWrites(stream: Writable): void {
  const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
  let isGathering = false;
  stream.write = (...args: unknown[]): boolean => {
    if (!isGathering) {
      isGathering = true;
      stream.cork();
      process.nextTick(() => {
        isGathering = false;
        stream.uncork();
      });
    }
    return write(...args);
  };
}
