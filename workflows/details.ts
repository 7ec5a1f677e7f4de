import { TASK_STATE_WORDS, TASK_STATES } from '../contracts/states';
import type { SubmissionInput, SubmissionProgress } from '../contracts/submission';

/** The current details of a submission, as short Markdown for the Temporal UI. */
export function describeSubmission(input: SubmissionInput, progress: SubmissionProgress): string {
  const rows = TASK_STATES.filter((state) => progress.counts[state]).map(
    (state) => `| ${TASK_STATE_WORDS[state].shown} | ${progress.counts[state]} |`,
  );
  const presence = progress.endpointOnline ? 'online' : 'offline';
  const since = progress.endpointSinceMs > 0 ? ` since ${new Date(progress.endpointSinceMs).toISOString()}` : '';
  const lines = [
    `**${escape(input.functionName)}** on **${escape(input.endpointName)}** (${presence}${since})`,
    '',
    '| state | tasks |',
    '|---|---|',
    ...rows,
  ];
  if (progress.failures.length > 0) {
    lines.push('', 'Last failures:', '');
    for (const failure of progress.failures) lines.push(`- \`${failure.taskId}\` ${failure.code}: ${escape(failure.text)}`);
  }
  return lines.join('\n');
}

function escape(text: string): string {
  return text.replace(/[|*_`<>\\]/g, '\\$&');
}
