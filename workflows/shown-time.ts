/** Times as the Temporal UI shows them in details and summaries. */

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const NEAR_MS = 60 * 60_000;
const DAY_MS = 86_400_000;

/**
 * Formats a time as `10 Dec 14:00 UTC`, with seconds if it is within an hour of `nowMs`, and with the year if it is more than
 * half a year away. Always in UTC, because a workflow does not know the time zone of its reader.
 */
export function showTime(ms: number, nowMs: number): string {
  const date = new Date(ms);
  const two = (part: number): string => String(part).padStart(2, '0');
  const distanceMs = Math.abs(ms - nowMs);
  const year = distanceMs > 180 * DAY_MS ? ` ${date.getUTCFullYear()}` : '';
  const seconds = distanceMs < NEAR_MS ? `:${two(date.getUTCSeconds())}` : '';
  const time = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}${seconds}`;
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()] ?? ''}${year} ${time} UTC`;
}
