import { randomBytes } from 'node:crypto';

/** Names of broker users, and the patterns of names that a user may read or write. */

export const escapePattern = (name: string): string => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

export const exactly = (...names: string[]): string => `^(${names.map(escapePattern).join('|')})$`;

/** A random part keeps the users of one endpoint or identity apart. */
export const makeUserName = (purpose: string, id: string): string => `${purpose}-${id}-${randomBytes(4).toString('hex')}`;
