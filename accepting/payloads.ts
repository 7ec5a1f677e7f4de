import { TerminalError } from '../contracts/errors';

/** Cheap checks of packed text, whose content is opaque to the service. */

const PACKED_START = /^[0-9]{1,10}\n/;

/** Node has this method since version 20; the type library of es2022 does not declare it. */
type WellFormedString = string & { isWellFormed(): boolean };

/** Throws 422 when the text is not in the format of packed buffers, 413 when it has more than `maxChars` code points. */
export function requirePacked(text: string, maxChars: number, what: string): void {
  if (!PACKED_START.test(text)) {
    throw new TerminalError('INVALID_REQUEST', `${what} is not packed: it must begin with a length and a newline`);
  }
  if (text.includes('\0') || !(text as WellFormedString).isWellFormed()) {
    throw new TerminalError('INVALID_REQUEST', `${what} contains a NUL or an unpaired surrogate; encode it as base64 or JSON`);
  }
  // A text never has more code points than UTF-16 units, so most texts need no count.
  if (text.length <= maxChars) return;
  let chars = 0;
  for (const _ of text) chars++;
  if (chars > maxChars) {
    throw new TerminalError(
      'PAYLOAD_TOO_LARGE',
      `${what} has ${chars} serialized characters, but the limit is ${maxChars}; pass the result of an earlier call by reference, or a path or URL that the endpoint can read`,
    );
  }
}
