import type { CallProgress } from './calls';
import { TASK_STATE_WORDS, TASK_STATES } from './states';

/** One line about a call for the Temporal UI: part of the current details of the call and of its pipeline. */
export function callLine(call: CallProgress): string {
  const counts = TASK_STATES.filter((state) => call.counts[state]).map((state) =>
    call.total === 1 ? TASK_STATE_WORDS[state].shown : `${call.counts[state]} ${TASK_STATE_WORDS[state].shown}`,
  );
  const offline =
    call.endpointOnline || call.endpointSinceMs === 0 ? '' : ` (offline since ${new Date(call.endpointSinceMs).toISOString()})`;
  const links = call.links.map((url, index) => `[submission${call.links.length > 1 ? ` ${index + 1}` : ''}](${url})`);
  return `**${escapeMarkdown(call.label)}** on **${escapeMarkdown(call.endpoint)}**${offline}: ${counts.join(', ')} ${links.join(' ')}`.trimEnd();
}

export function escapeMarkdown(text: string): string {
  return text.replace(/[|*_`<>\\[\]]/g, '\\$&');
}
