/** RFC 3339 with a time zone, as the language writes moments; a date alone, or one without a zone, is not a moment. */
const TIMESTAMP = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):?(\d\d))$/;

/** Unix milliseconds; undefined when the text is not a moment. */
export function timestampMs(text: string): number | undefined {
  const parts = TIMESTAMP.exec(text);
  if (!parts) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts.slice(1, 7).map(Number);
  if (month < 1 || month > 12 || hour > 23 || minute > 59 || second > 60) return undefined;
  const date = Date.UTC(year, month - 1, day);
  if (day < 1 || new Date(date).getUTCDate() !== day) return undefined;
  const offset = parts[8] === undefined ? 0 : (parts[8] === '-' ? -1 : 1) * (Number(parts[9]) * 60 + Number(parts[10]));
  const fraction = Number(`0.${parts[7] ?? '0'}`) * 1_000;
  return date + ((hour * 60 + minute - offset) * 60 + second) * 1_000 + fraction;
}
