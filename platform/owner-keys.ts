import { createHmac } from 'node:crypto';

const KEY_CHARS = 22; // 132 bits

/**
 * What an agent knows of a task's owner: the same key for the same owner at one endpoint, and nothing else. It is not the
 * identity's id, and differs from endpoint to endpoint.
 */
export function ownerKey(keyHex: string, endpointQueueId: string, ownerId: string): string {
  const mac = createHmac('sha256', Buffer.from(keyHex, 'hex'))
    .update(`owner\n${endpointQueueId}\n${ownerId}`)
    .digest('base64url');
  return mac.slice(0, KEY_CHARS);
}
