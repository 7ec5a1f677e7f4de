/** Encoders for the parts of ASN.1 DER (ITU-T X.690) that a certificate needs. */

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectId: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

const CONTEXT = 0x80;
const CONSTRUCTED = 0x20;
/** RFC 5280, 4.1.2.5: UTCTime until 2049, GeneralizedTime from 2050. */
const FIRST_GENERALIZED_YEAR = 2050;

function encode(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const bytes: number[] = [];
  for (let rest = content.length; rest > 0; rest >>= 8) bytes.unshift(rest & 0xff);
  const length = content.length < 0x80 ? [content.length] : [0x80 | bytes.length, ...bytes];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

export const sequence = (...parts: Buffer[]): Buffer => encode(TAG.sequence, ...parts);
export const set = (...parts: Buffer[]): Buffer => encode(TAG.set, ...parts);
export const boolean = (value: boolean): Buffer => encode(TAG.boolean, Buffer.from([value ? 0xff : 0]));
/** A positive big-endian integer: its first bit must be 0. */
export const integer = (bytes: Buffer): Buffer => encode(TAG.integer, bytes);
export const octetString = (bytes: Buffer): Buffer => encode(TAG.octetString, bytes);
export const utf8String = (text: string): Buffer => encode(TAG.utf8String, Buffer.from(text, 'utf8'));
export const bitString = (unusedBits: number, bytes: Buffer): Buffer => encode(TAG.bitString, Buffer.from([unusedBits]), bytes);

/** The context-specific tag `[number]`. Explicit (constructed) unless it replaces the tag of a primitive value. */
export const contextTag = (number: number, content: Buffer, form: 'constructed' | 'primitive' = 'constructed'): Buffer =>
  encode(CONTEXT | (form === 'constructed' ? CONSTRUCTED : 0) | number, content);

export function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = rest.flatMap((part) => {
    const groups = [part & 0x7f];
    for (let left = part >>> 7; left > 0; left >>>= 7) groups.unshift(0x80 | (left & 0x7f));
    return groups;
  });
  return encode(TAG.objectId, Buffer.from([first * 40 + second, ...bytes]));
}

export function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/\.\d+/, '').replace(/[-:T]/g, ''); // YYYYMMDDhhmmssZ
  if (date.getUTCFullYear() >= FIRST_GENERALIZED_YEAR) return encode(TAG.generalizedTime, Buffer.from(digits));
  return encode(TAG.utcTime, Buffer.from(digits.slice(2)));
}

/** Returns the 4 or 16 bytes of an address. For IPv6, supports only what loopback needs (one `::`, no embedded IPv4). */
export function ipAddressBytes(address: string): Buffer {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail = ''] = address.split('::');
  const groups = (text: string): number[] => (text === '' ? [] : text.split(':').map((group) => parseInt(group, 16)));
  const before = groups(head);
  const after = groups(tail);
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}
