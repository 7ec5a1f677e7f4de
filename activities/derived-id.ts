import { createHash } from 'node:crypto';

/** A UUID (version 8) that is the same for the same name, so that a repeated activity creates nothing twice. */
export function derivedId(name: string): string {
  const hex = createHash('sha256').update(name).digest('hex').slice(0, 32);
  const text = `${hex.slice(0, 12)}8${hex.slice(13, 16)}8${hex.slice(17)}`;
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join('-');
}

const MAX_KEY_CHARS = 200;

/** The key by which a repeated activity finds the submission that it accepted before. Different places have different keys. */
export function requestKeyOf(workflow: string, place: string): string {
  const key = `${workflow}/${place}`;
  return key.length <= MAX_KEY_CHARS ? key : `${workflow}/${derivedId(place)}`;
}
