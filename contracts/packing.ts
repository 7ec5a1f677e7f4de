import { stringifyJsonText } from './json-text';

/**
 * The text encoding of code and arguments in Globus Compute agents and clients (globus-compute-sdk 4.19: `serialize/base.py`,
 * `facade.py`). A buffer is a 2-character identifier, a newline and a body. Packed buffers are a sequence of
 * `<length>\n<buffer>`, where the length counts Unicode code points (not UTF-16 units, not bytes).
 */

/** Buffer identifiers that the project reads or writes; buffers with other identifiers are opaque. */
export const BUFFER = {
  /** JSON text: Globus strategy JSONData. */
  json: '11',
  /** Python source as `name:source`: Globus strategy PureSourceTextInspect. */
  pythonSource: 'st',
  /** JavaScript source as `name:source`. Only our agent runs it. */
  javascriptSource: 'js',
  /** A shell command template as `name:template`. Only our agent runs it. */
  shell: 'sh',
} as const;

/** The class path with which clients request JSON results from a stock worker. */
export const JSON_RESULT_SERIALIZER = 'globus_compute_sdk.serialize.JSONData';

export interface PackedBuffer {
  identifier: string;
  body: string;
}

function codePoints(text: string): number {
  let surrogatePairs = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0xd800 && unit <= 0xdbff) {
      const next = text.charCodeAt(i + 1);
      if (next >= 0xdc00 && next <= 0xdfff) {
        surrogatePairs++;
        i++;
      }
    }
  }
  return text.length - surrogatePairs;
}

export function packBuffer(identifier: string, body: string): string {
  const buffer = `${identifier}\n${body}`;
  return `${codePoints(buffer)}\n${buffer}`;
}

/** Stock agents can decode this payload. Throws INVALID_REQUEST for an argument that JSON cannot hold. */
export function packJsonArguments(args: readonly unknown[], kwargs: Readonly<Record<string, unknown>> = {}): string {
  return packJsonTexts(stringifyJsonText(args, 'argument list'), stringifyJsonText(kwargs, 'keyword arguments'));
}

/** Like {@link packJsonArguments}, but from JSON texts, an array and an object, which pass through verbatim. */
export function packJsonTexts(args: string, kwargs = '{}'): string {
  return packBuffer(BUFFER.json, args) + packBuffer(BUFFER.json, kwargs);
}

/** Splits packed buffers; throws a `SyntaxError` that names the position of an error. */
export function unpackBuffers(text: string): PackedBuffer[] {
  const buffers: PackedBuffer[] = [];
  let at = 0;
  while (at < text.length) {
    const newline = text.indexOf('\n', at);
    const digits = newline < 0 ? '' : text.slice(at, newline);
    if (!/^[0-9]{1,10}$/.test(digits)) throw new SyntaxError(`packed buffers: expected a length at position ${at}`);
    const length = Number(digits);
    let end = newline + 1;
    for (let n = 0; n < length; n++) {
      if (end >= text.length) throw new SyntaxError(`packed buffers: the buffer at position ${at} is truncated`);
      end += text.codePointAt(end)! > 0xffff ? 2 : 1; // end < text.length, so there is a code point
    }
    buffers.push(splitBuffer(text.slice(newline + 1, end)));
    at = end;
  }
  return buffers;
}

/** Splits one unpacked buffer, such as the `data` of a result. */
export function splitBuffer(buffer: string): PackedBuffer {
  if (buffer[2] !== '\n') throw new SyntaxError('a buffer must begin with a two-character identifier and a newline');
  return { identifier: buffer.slice(0, 2), body: buffer.slice(3) };
}
