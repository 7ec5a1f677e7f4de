import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

import { authorizeQuerySchema } from '../../contracts/http/login';
import type { LoginFields } from './login-page';

/**
 * The `state` of a login at the identity provider: the signed request of the waiting program, valid for ten minutes and only in
 * the browser that began the login. Nothing is stored, so requests from strangers use no memory.
 */
export interface LoginStates {
  seal(fields: LoginFields, ticket: string): string;
  /** The request; undefined if the state was changed, has expired or was begun in another browser. */
  open(state: string, ticket: string): LoginFields | undefined;
}

const LIFETIME_MS = 600_000;

/** A value for the cookie that ties a login to a browser. */
export const makeTicket = (): string => randomBytes(24).toString('base64url');

/** `key`: the secret of the service, the same in every replica. */
export function createLoginStates(key: string, now: () => number = Date.now): LoginStates {
  const sign = (text: string): Buffer => createHmac('sha256', key).update(`login state ${text}`).digest();

  return {
    seal(fields, ticket) {
      const content = { fields, until: now() + LIFETIME_MS, ticket: digest(ticket), salt: randomBytes(16).toString('base64url') };
      const text = Buffer.from(JSON.stringify(content)).toString('base64url');
      return `${text}.${sign(text).toString('base64url')}`;
    },

    open(state, ticket) {
      const [text = '', signature = ''] = state.split('.');
      if (!isEqual(sign(text), Buffer.from(signature, 'base64url'))) return undefined;
      const content = JSON.parse(Buffer.from(text, 'base64url').toString('utf8')) as {
        fields: unknown;
        until: number;
        ticket: string;
      };
      if (content.until < now() || !isEqual(Buffer.from(content.ticket), Buffer.from(digest(ticket)))) return undefined;
      return authorizeQuerySchema.parse(content.fields);
    },
  };
}

const digest = (ticket: string): string => createHash('sha256').update(ticket).digest('base64url');
export const isEqual = (a: Buffer, b: Buffer): boolean => a.length === b.length && timingSafeEqual(a, b);
