import { createHmac } from 'node:crypto';

const KEY_CHARS = 22; // 132 bits

/**
 * The key is all that an agent knows about a task's owner. It is the same for all tasks of an owner at one endpoint, differs
 * between endpoints, and does not reveal the owner's identity ID.
 */
export function ownerKey(keyHex: string, endpointQueueId: string, ownerId: string): string {
  const mac = createHmac('sha256', Buffer.from(keyHex, 'hex'))
    .update(`owner\n${endpointQueueId}\n${ownerId}`)
    .digest('base64url');
  return mac.slice(0, KEY_CHARS);
}
