import { createHash, createHmac, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';

/** Client secrets, access tokens and API tokens. Only their hashes are stored. */

const COST = 16_384;
const BLOCK_SIZE = 8;
const KEY_BYTES = 32;
/** Maximum number of verified secrets in the cache of a process; an entry takes about 200 bytes. */
const MAX_REMEMBERED = 10_000;

export const makeSecret = (): string => randomBytes(32).toString('base64url');
export const makeAccessToken = (): string => `fx_${randomBytes(32).toString('base64url')}`;
export const makeApiToken = (): string => `fxt_${randomBytes(32).toString('base64url')}`;
/** A fast hash is enough, because 256 random bits cannot be guessed. Secrets that people may choose use scrypt, below. */
export const hashToken = (token: string): Buffer => createHash('sha256').update(token).digest();

function derive(secret: string, salt: Buffer, cost: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(secret, salt, KEY_BYTES, { N: cost, r: BLOCK_SIZE, p: 1 }, (error, key) => (error ? reject(error) : resolve(key)));
  });
}

/** Format: `scrypt$<cost>$<salt>$<key>`. */
export async function hashSecret(secret: string): Promise<string> {
  const salt = randomBytes(16);
  const key = await derive(secret, salt, COST);
  return `scrypt$${COST}$${salt.toString('base64url')}$${key.toString('base64url')}`;
}

async function isSecretOf(secret: string, stored: string): Promise<boolean> {
  const [scheme, cost, salt, key] = stored.split('$');
  if (scheme !== 'scrypt' || !cost || !salt || !key) throw new Error('a stored secret has an unknown format');
  const expected = Buffer.from(key, 'base64url');
  const given = await derive(secret, Buffer.from(salt, 'base64url'), Number(cost));
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** Verifies secrets. Caches verified secrets, because scrypt takes 50 ms. */
export function createSecretVerifier(): (secret: string, stored: string) => Promise<boolean> {
  const processKey = randomBytes(32);
  const remembered = new Map<string, Buffer>();
  return async function verifySecret(secret, stored) {
    const digest = createHmac('sha256', processKey).update(secret).digest();
    const known = remembered.get(stored);
    if (known && timingSafeEqual(known, digest)) return true;
    if (!(await isSecretOf(secret, stored))) return false;
    if (remembered.size >= MAX_REMEMBERED) remembered.clear();
    remembered.set(stored, digest);
    return true;
  };
}
