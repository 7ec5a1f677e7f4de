import { writeFileSync } from 'node:fs';

import { ensureError } from '../contracts/errors';
import { parseExactly, stringifyJsonText } from '../contracts/json-text';
import { BUFFER, splitBuffer } from '../contracts/packing';
import { UserError } from '../local/machine/user-error';

import type { TaskState } from '../sdk/index';

/** Shows a task's value. Unpickles nothing, because that would run code of the result; shows the repr of our agent. */

export interface ShownValue {
  /** For standard output. */
  text: string;
  /** JSON text, for programs. A value that is not JSON is `{identifier, data}`, its serialized form. */
  json: string;
  /** For a value that is not JSON: its class and its repr, if the agent sent them. */
  look?: { type?: string; repr?: string };
}

/** Identifiers of pickles as base64. */
const PICKLES: ReadonlySet<string> = new Set(['00', '01', '02', '03', '04']);

export function showValue(result: string, details: TaskState['details']): ShownValue {
  const { identifier, body } = splitBuffer(result);
  if (identifier === BUFFER.json) return showJson(body);
  const look = lookIn(details);
  const { type, repr } = look;
  const kind = PICKLES.has(identifier) ? `a pickle of ${Buffer.byteLength(body, 'base64')} bytes` : `serialized as ${identifier}`;
  return {
    text: repr ?? `<${type ?? 'a value that is not JSON'}, ${kind}>`,
    json: JSON.stringify({ identifier, data: body }),
    look,
  };
}

/** Returns one line that explains a value that is not JSON. */
export function noteOf({ look }: ShownValue): string | undefined {
  if (look === undefined) return undefined;
  const shown = look.repr === undefined ? '' : ', shown by its repr';
  return `The value is ${look.type === undefined ? 'not JSON' : `of type ${look.type}`}${shown}; --output FILE writes it to a file.`;
}

function showJson(body: string): ShownValue {
  try {
    const value = parseExactly(body);
    const json = stringifyJsonText(value);
    return { text: typeof value === 'string' ? value : json, json };
  } catch {
    return { text: body, json: body }; // nested too deeply for us
  }
}

function lookIn(details: TaskState['details']): NonNullable<ShownValue['look']> {
  const { type, repr } = (details?.value ?? {}) as Record<string, unknown>;
  return { ...(typeof type === 'string' ? { type } : {}), ...(typeof repr === 'string' ? { repr } : {}) };
}

/** Writes text and bytes as they are, other JSON as JSON, and everything else as its pickle. Returns a sentence about it. */
export function writeValue(file: string, result: string, details: TaskState['details']): string {
  const [bytes, what] = contentOf(result, details);
  try {
    writeFileSync(file, bytes);
  } catch (cause) {
    throw new UserError(`Could not write the value to ${file}: ${ensureError(cause).message}.`, { cause });
  }
  return `Wrote ${bytes.length} bytes to ${file}: ${what}.`;
}

function contentOf(result: string, details: TaskState['details']): [bytes: Buffer, what: string] {
  const { identifier, body } = splitBuffer(result);
  if (identifier === BUFFER.json) {
    const { text, json } = showJson(body);
    return text === json ? [Buffer.from(`${json}\n`), 'JSON'] : [Buffer.from(text), 'text'];
  }
  if (!PICKLES.has(identifier)) return [Buffer.from(body), `a value serialized as ${identifier}`];
  const pickle = Buffer.from(body, 'base64');
  const bytes = pickledBytes(pickle);
  const type = lookIn(details).type ?? 'a Python value';
  return bytes ? [bytes, 'the bytes that the function returned'] : [pickle, `a pickle of ${type}, for dill.load`];
}

const OP = { protocol: 0x80, frame: 0x95, memoize: 0x94, shortBytes: 0x43, bytes: 0x42, longBytes: 0x8e, stop: 0x2e } as const;

/** Returns the content of a pickle of one `bytes` object; undefined for any other pickle. */
export function pickledBytes(pickle: Buffer): Buffer | undefined {
  let found: Buffer | undefined;
  const take = (start: number, length: number): number => {
    found = pickle.subarray(start, start + length);
    return start + length;
  };
  try {
    for (let at = 0; ;) {
      switch (pickle[at]) {
        case OP.protocol:
          at += 2;
          break;
        case OP.frame:
          at += 9;
          break;
        case OP.memoize:
          at += 1;
          break;
        case OP.shortBytes:
          at = take(at + 2, pickle.readUInt8(at + 1));
          break;
        case OP.bytes:
          at = take(at + 5, pickle.readUInt32LE(at + 1));
          break;
        case OP.longBytes:
          at = take(at + 9, Number(pickle.readBigUInt64LE(at + 1)));
          break;
        case OP.stop:
          return found;
        default:
          return undefined;
      }
    }
  } catch {
    return undefined; // cut short
  }
}
