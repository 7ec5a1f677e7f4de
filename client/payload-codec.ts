import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';

import type { Payload, PayloadCodec } from '@temporalio/common';
import { temporal } from '@temporalio/proto';

/**
 * Encrypts the payloads in Temporal's histories with AES-256-GCM, in the format of Temporal's samples for other languages
 * (`binary/encrypted`, the ID of the key in the metadata, a nonce of 12 bytes before the ciphertext and its tag). Unencrypted
 * payloads are read unchanged.
 */

const ENCODING = 'binary/encrypted';
const KEY_ID_FIELD = 'encryption-key-id';
const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** `<id> <64 hex digits>` */
const KEY_LINE = /^([A-Za-z0-9._-]{1,64})\s+([0-9a-fA-F]{64})$/;

const { Payload: PayloadMessage } = temporal.api.common.v1;

/** Keys by ID, in the order of the file. The first key encrypts; all keys decrypt. */
export type PayloadKeys = ReadonlyMap<string, Buffer>;

export class PayloadKeyError extends Error {
  constructor(
    readonly keyId: string,
    why: string,
  ) {
    super(`a payload is encrypted with the key "${keyId}", ${why}`);
    this.name = 'PayloadKeyError';
  }
}

/**
 * Reads a key file. Each line has an ID and 64 hex digits; empty lines and lines that begin with # are ignored. If the file is
 * not valid, throws an Error that names the line but never the key.
 */
export function readPayloadKeys(file: string): PayloadKeys {
  const keys = new Map<string, Buffer>();
  for (const [index, line] of readFileSync(file, 'utf8').split('\n').entries()) {
    const text = line.trim();
    if (text === '' || text.startsWith('#')) continue;
    const [, id, hex] = KEY_LINE.exec(text) ?? [];
    const where = `line ${index + 1} of ${file}`;
    if (id === undefined || hex === undefined) throw new Error(`${where} is not an ID and a key of 64 hex digits`);
    if (keys.has(id)) throw new Error(`${where} has the ID "${id}" a second time; each key needs an ID of its own`);
    keys.set(id, Buffer.from(hex, 'hex'));
  }
  if (keys.size === 0) throw new Error(`${file} has no key; add a line with an ID and the output of "openssl rand -hex 32"`);
  return keys;
}

export interface PayloadCodecOptions {
  keys: PayloadKeys;
  /** Keep payloads that no key decrypts unchanged. By default, reading such a payload throws a {@link PayloadKeyError}. */
  keepUnreadable?: boolean;
}

export function createPayloadCodec({ keys, keepUnreadable = false }: PayloadCodecOptions): PayloadCodec {
  const [first] = keys;
  if (first === undefined) throw new Error('a payload codec needs a key');
  const [currentId, currentKey] = first;

  const encrypted = (payload: Payload): Payload => {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, currentKey, nonce);
    const data = [nonce, cipher.update(PayloadMessage.encode(payload).finish()), cipher.final(), cipher.getAuthTag()];
    return {
      metadata: { encoding: Buffer.from(ENCODING), [KEY_ID_FIELD]: Buffer.from(currentId) },
      data: Buffer.concat(data),
    };
  };

  const decrypted = (payload: Payload): Payload => {
    if (textOf(payload.metadata?.encoding) !== ENCODING) return payload;
    const keyId = textOf(payload.metadata?.[KEY_ID_FIELD]);
    const key = keys.get(keyId);
    if (key === undefined) throw new PayloadKeyError(keyId, 'which is not in the key file: add the key');
    const data = Buffer.from(payload.data ?? []);
    try {
      const decipher = createDecipheriv(CIPHER, key, data.subarray(0, NONCE_BYTES));
      decipher.setAuthTag(data.subarray(-TAG_BYTES));
      const plain = [decipher.update(data.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()];
      return PayloadMessage.decode(Buffer.concat(plain));
    } catch {
      throw new PayloadKeyError(keyId, 'but the key file has a different key with this ID');
    }
  };

  const readable = (payload: Payload): Payload => {
    try {
      return decrypted(payload);
    } catch (error) {
      if (keepUnreadable && error instanceof PayloadKeyError) return payload;
      throw error;
    }
  };

  return {
    encode: (payloads) => Promise.resolve(payloads.map(encrypted)),
    // async, so that an error becomes a rejection
    decode: async (payloads) => payloads.map(readable),
  };
}

const textOf = (bytes: Uint8Array | null | undefined): string => Buffer.from(bytes ?? []).toString();
