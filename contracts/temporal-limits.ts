/** Cuts texts to what Temporal accepts: it refuses the start of a workflow with a longer one. */

/**
 * The limit of 400 bytes is for the payload of the summary: its JSON text, its metadata and, if payloads are encrypted, the
 * nonce, the tag and the ID of the key.
 */
const MAX_SUMMARY_BYTES = 200;
/** Temporal's visibility on PostgreSQL keeps keywords in VARCHAR(255), which counts characters. */
const MAX_KEYWORD_CHARS = 255;

export function limitSummary(text: string): string {
  let [bytes, end] = [0, 0];
  for (const char of text) {
    bytes += jsonBytesOf(char);
    if (bytes > MAX_SUMMARY_BYTES) break;
    end += char.length;
  }
  return text.slice(0, end);
}

export function limitAttribute(text: string): string {
  return [...text].slice(0, MAX_KEYWORD_CHARS).join('');
}

/** UTF-8 bytes in a JSON text, with escapes. */
function jsonBytesOf(char: string): number {
  const inJson = JSON.stringify(char).length - 2;
  if (inJson > char.length) return inJson;
  const codePoint = char.codePointAt(0) ?? 0;
  if (codePoint < 0x80) return 1;
  if (codePoint < 0x800) return 2;
  return codePoint < 0x10000 ? 3 : 4;
}
