import type { Duplex } from 'node:stream';

/**
 * Whether two defects of the executor of SDK 1.0.0 to 1.0.4 (`funcx/sdk/executor.py`, with `websockets` 10) show depends on the
 * timing of the service:
 *
 * - `shutdown`, which also runs at exit, closes the results connection. It waits forever when the TCP connection ends together
 *   with the closing handshake, or when the client was closing the connection already and that ends meanwhile. So the service
 *   sends its close frame at once and ends the TCP connection a moment later.
 * - When the answer to a submit arrives while the client closes its connection, it opens no other, and the future waits forever.
 *   So the answer takes longer than a connection takes to close. The tasks do not wait for it.
 */
const END_AFTER_MS = 10;
export const SHORTEST_SUBMIT_MS = 2 * END_AFTER_MS;

/** What is written is sent as always; the end of the connection follows END_AFTER_MS after it was asked for. */
export function endLater(connection: Duplex): void {
  const end = connection.end.bind(connection);
  connection.end = () => {
    setTimeout(() => end(), END_AFTER_MS);
    return connection;
  };
}
