import { parseJsonText, type ParseOptions } from '../contracts/json-text';
import { BUFFER, splitBuffer } from '../contracts/packing';

/** A result that is not JSON, such as a pickled Python object. Only a client in the same language can read it. */
export class SerializedValue {
  constructor(
    /** Two characters that name the serializer (Globus Compute strategies). */
    readonly identifier: string,
    /** The serialized text, without its identifier. */
    readonly data: string,
  ) {}
}

/** Returns the value of a result buffer. Throws INVALID_REQUEST for an integer beyond 2^53, unless `integers` is `bigint`. */
export function valueOf(buffer: string, options: ParseOptions = {}): unknown {
  const { identifier, body } = splitBuffer(buffer);
  return identifier === BUFFER.json ? parseJsonText(body, options) : new SerializedValue(identifier, body);
}
