import { createHmac, timingSafeEqual } from 'node:crypto';

/** Tokens to download the body of an attempt or upload its result: `<attempt>.<mac>`, signed, so that nothing is stored. */

export type BodyPurpose = 'body' | 'result';

function macOf(keyHex: string, purpose: BodyPurpose, taskId: string, attempt: number): Buffer {
  return createHmac('sha256', Buffer.from(keyHex, 'hex')).update(`${purpose}\n${taskId}\n${attempt}`).digest();
}

export function signBodyToken(keyHex: string, purpose: BodyPurpose, taskId: string, attempt: number): string {
  return `${attempt}.${macOf(keyHex, purpose, taskId, attempt).toString('base64url')}`;
}

/** The attempt that the token was signed for, or undefined when it is not valid for this purpose and task. */
export function verifyBodyToken(keyHex: string, purpose: BodyPurpose, taskId: string, token: string): number | undefined {
  const match = /^([1-9][0-9]{0,8})\.([A-Za-z0-9_-]{43})$/.exec(token);
  if (!match?.[1] || !match[2]) return undefined;
  const attempt = Number(match[1]);
  const given = Buffer.from(match[2], 'base64url');
  const expected = macOf(keyHex, purpose, taskId, attempt);
  return given.length === expected.length && timingSafeEqual(given, expected) ? attempt : undefined;
}
