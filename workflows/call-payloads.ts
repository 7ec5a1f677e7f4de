import {
  BinaryPayloadConverter,
  CompositePayloadConverter,
  JsonPayloadConverter,
  METADATA_ENCODING_KEY,
  UndefinedPayloadConverter,
  type Payload,
  type PayloadConverterWithEncoding,
} from '@temporalio/common';
import { decode, encode } from '@temporalio/common/lib/encoding';

import { INPUT_ERROR_KEY } from '../contracts/calls';
import { ExactNumber, parseExactly, stringifyJsonText } from '../contracts/json-text';

/**
 * Reads and writes the payloads of workflows and activities. Differs from Temporal's default in two ways, for the calls of
 * pipelines, whose input any SDK may have written:
 * - numbers in arguments and values stay as they were written: 1.0, long integers, NaN;
 * - a call whose input cannot be decoded is refused. With the default converter, its workflow task would fail forever.
 */

/** Defined in client/payload-codec.ts, which workflows cannot import. */
const ENCRYPTION_KEY_ID = 'encryption-key-id';
const ARGUMENT_KEYS = ['args', 'kwargs', 'args_list'] as const;
const VALUE_KEYS = ['values'] as const;

class CallJsonConverter implements PayloadConverterWithEncoding {
  readonly encodingType = 'json/plain';
  readonly #json = new JsonPayloadConverter();

  toPayload<T>(value: T): Payload | undefined {
    if (!holdsExactNumber(value)) return this.#json.toPayload(value);
    return { metadata: { [METADATA_ENCODING_KEY]: encode(this.encodingType) }, data: encode(stringifyJsonText(value)) };
  }

  fromPayload<T>(payload: Payload): T {
    const text = decode(payload.data ?? new Uint8Array());
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      // Python writes NaN, which is not JSON. Any other text that fails here is invalid.
      const exact = parsedExactly(text);
      if (!exactPartIn(exact)) return { [INPUT_ERROR_KEY]: String(error) } as T;
      return withExactPart(exact) as T;
    }
    return (exactPartIn(value) ? withExactPart(parseExactly(text)) : value) as T;
  }
}

/** Payloads with an unknown encoding, such as encrypted ones, become a marker. */
class CallPayloadConverter extends CompositePayloadConverter {
  readonly #encodings: ReadonlySet<string>;

  constructor(...converters: PayloadConverterWithEncoding[]) {
    super(...converters);
    this.#encodings = new Set(converters.map(({ encodingType }) => encodingType));
  }

  override fromPayload<T>(payload: Payload): T {
    const encoding = payload.metadata?.[METADATA_ENCODING_KEY];
    const name = encoding ? decode(encoding) : 'none';
    if (this.#encodings.has(name)) return super.fromPayload<T>(payload);
    const keyId = payload.metadata?.[ENCRYPTION_KEY_ID];
    const withKey = keyId ? `, encrypted with the key "${decode(keyId)}", which the service does not have` : '';
    return { [INPUT_ERROR_KEY]: `its payload has the encoding ${name}${withKey}` } as T;
  }
}

export const payloadConverter = new CallPayloadConverter(
  new UndefinedPayloadConverter(),
  new BinaryPayloadConverter(),
  new CallJsonConverter(),
);

type Members = Record<string, unknown>;
interface ExactPart {
  of: Members;
  keys: readonly string[];
}

/** The part whose numbers are kept as text: the arguments of a call, and the values in the results of its activity. */
function exactPartIn(value: unknown): ExactPart | undefined {
  if (!isObject(value)) return undefined;
  const call = isObject(value.call) && 'kind' in value ? value.call : value;
  if (typeof call.function === 'string' && typeof call.endpoint === 'string') return { of: call, keys: ARGUMENT_KEYS };
  const isResults = Array.isArray(value.values) && Array.isArray(value.failures) && typeof value.failed === 'number';
  return isResults ? { of: value, keys: VALUE_KEYS } : undefined;
}

/** The value with its exact part. All other fields are plain values: the 5.0 of a policy becomes the number 5. */
function withExactPart(value: unknown): unknown {
  const exact = exactPartIn(value);
  const plain = toPlain(value);
  const target = exactPartIn(plain);
  if (!exact || !target) return plain;
  for (const key of exact.keys) if (key in exact.of) target.of[key] = exact.of[key];
  return plain;
}

function parsedExactly(text: string): unknown {
  try {
    return parseExactly(text);
  } catch {
    return undefined;
  }
}

function toPlain(value: unknown): unknown {
  if (value instanceof ExactNumber) return Number(value.text);
  if (Array.isArray(value)) return value.map(toPlain);
  return isObject(value) ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toPlain(item)])) : value;
}

function holdsExactNumber(value: unknown): boolean {
  if (value instanceof ExactNumber) return true;
  if (Array.isArray(value)) return value.some(holdsExactNumber);
  return isObject(value) && Object.values(value).some(holdsExactNumber);
}

function isObject(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
