import type { IncomingMessage } from 'node:http';

import type { Response } from 'express';

/** True if the client left: nothing needs to be done for the request, and no event follows. */
export const hasLeft = (req: IncomingMessage, res: Response): boolean => res.closed || req.socket.destroyed;

/**
 * Calls `action` once, when the response is closed or its connection is. A response that waits behind an earlier one of its
 * connection is not closed with the connection.
 */
export function onClosed(req: IncomingMessage, res: Response, action: () => void): void {
  const { socket } = req;
  const once = (): void => {
    res.off('close', once);
    socket.off('close', once);
    action();
  };
  res.once('close', once);
  socket.once('close', once);
}
