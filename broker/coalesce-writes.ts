import type { Writable } from 'node:stream';

/**
 * amqplib writes every frame by itself; without Nagle's algorithm each one is a system call here, and a packet and a wake-up
 * at the broker. This gathers what is written in one turn of the event loop into one write; nothing waits for longer.
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
