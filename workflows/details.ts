import { escapeMarkdown } from '../contracts/call-details';
import { TASK_STATE_WORDS, TASK_STATES } from '../contracts/states';
import { MAX_SHOWN_TASKS, type QueueState, type SubmissionInput, type SubmissionProgress } from '../contracts/submission';
import { showTime } from './shown-time';

/**
 * The current details of a submission, as short Markdown for the Temporal UI: how far it is, what waits and why, since when,
 * and what to do. `nowMs` is the time of the workflow: a terminated workflow keeps its last details, so they name their own time.
 */
export function describeSubmission(input: SubmissionInput, progress: SubmissionProgress, nowMs: number): string {
  const { submissionId, total } = input;
  const counts = TASK_STATES.filter((state) => progress.counts[state]).map(
    (state) => `**${progress.counts[state] ?? 0}** ${TASK_STATE_WORDS[state].shown}`,
  );
  const owner = input.ownerName === undefined ? '' : ` for **${escapeMarkdown(input.ownerName)}**`;
  const lines = [
    `**${escapeMarkdown(input.functionName)}** on **${escapeMarkdown(input.endpointName)}**${owner}`,
    '',
    `${total === 1 ? 'One task' : `${total} tasks`}: ${counts.join(', ')}`,
    '',
    ...reasons(input, progress, nowMs).map((reason) => `- ${reason}`),
  ];
  if (progress.failures.length > 0) {
    lines.push('', 'Last failures:', '');
    for (const failure of progress.failures) {
      lines.push(`- \`${failure.taskId}\` ${failure.code}: ${escapeMarkdown(failure.text)}`);
    }
    lines.push(
      '',
      `To list all of them: \`funcx task list --submission ${submissionId} --state failed\`. To run them again: \`funcx retry ${submissionId}\`.`,
    );
  }
  if (progress.open > 0) {
    lines.push('', `To stop it: *Request Cancellation* on this page, or \`funcx cancel submission ${submissionId}\`.`);
  }
  const now = progress.open > 0 ? ` The state now: \`funcx submission show ${submissionId}\`.` : '';
  lines.push('', `Last updated ${showTime(nowMs, nowMs)}.${now}`);
  return lines.join('\n');
}

/** Why tasks are not done, one sentence for each reason. */
function reasons(input: SubmissionInput, progress: SubmissionProgress, nowMs: number): string[] {
  const { waiting = 0, delayed = 0, dispatched = 0, running = 0 } = progress.counts;
  const found: string[] = [];
  if (progress.endpointDeleted === true) found.push('The endpoint was deleted: tasks that wait for it fail within a minute.');
  else if (waiting > 0) found.push(waitingReason(input, progress, waiting, nowMs));
  if (delayed > 0) found.push(retryReason(progress, delayed, nowMs));
  if (dispatched > 0 && progress.endpointOnline) {
    const endpoint = escapeMarkdown(input.endpointName);
    found.push(
      dispatched === 1
        ? `1 task is at the agent of ${endpoint}, which runs it when a worker is free.`
        : `${dispatched} tasks are at the agent of ${endpoint}, which runs them as its workers become free.`,
    );
  }
  if (progress.lost)
    found.push(
      `${count(progress.lost, 'attempt')} ${progress.lost === 1 ? 'was' : 'were'} lost with the agent that had it; the task runs again.`,
    );
  const offline = !progress.endpointOnline && progress.endpointDeleted !== true && dispatched + running > 0;
  if (offline) {
    found.push(
      `${escapeMarkdown(input.endpointName)} is offline${since(progress.endpointSinceMs, nowMs)} and has ${count(dispatched + running, 'task')} in hand. ` +
        'When the agent is back, the tasks that it no longer has run again.',
    );
  }
  if (progress.open > 0) found.push(`The deadline is ${showTime(input.deadlineMs, nowMs)}: tasks without an answer expire then.`);
  return found;
}

function waitingReason(input: SubmissionInput, progress: SubmissionProgress, waiting: number, nowMs: number): string {
  const endpoint = escapeMarkdown(input.endpointName);
  const what = count(waiting, 'task');
  const [waits, runs] = waiting === 1 ? ['waits', 'It runs'] : ['wait', 'They run'];
  if (!progress.endpointOnline) {
    return (
      `**${what} ${waits} because ${endpoint} is offline**${since(progress.endpointSinceMs, nowMs)}. ${runs} when its agent is back: ` +
      `start it on its machine (\`funcx endpoint start ${input.endpointName}\`), or ask its owner. More: \`funcx endpoint status ${input.endpointName}\`.`
    );
  }
  return progress.queue === undefined
    ? `**${what} ${waits} for a free place** on ${endpoint}.`
    : `**${what} ${waits} for a free place** on ${endpoint}: ${describeQueue(progress.queue)}`;
}

export function describeQueue({ inHand, window, workers, waiting, owners, ownerNames }: QueueState): string {
  const all = waiting >= MAX_SHOWN_TASKS ? `more than ${waiting}` : String(waiting);
  const whose = ownerNames.map(escapeMarkdown).join(', ') + (owners > ownerNames.length ? ' and others' : '');
  return (
    `its agent has ${inHand} of at most ${window} tasks in hand and runs ${workers} at the same time. ` +
    `In all, ${all} ${waiting === 1 ? 'task waits' : 'tasks wait'} there, of ${whose}; owners take turns.`
  );
}

function retryReason({ nextDueMs, nextAttempt }: SubmissionProgress, delayed: number, nowMs: number): string {
  const when = nextDueMs === undefined ? '' : ` at ${showTime(nextDueMs, nowMs)}`;
  const after = nextAttempt?.error ? ` after ${escapeMarkdown(nextAttempt.error)}` : ' after a failure';
  if (delayed === 1) return `**1 task will be retried${when}** (attempt ${nextAttempt?.number ?? 2})${after}.`;
  return `**${delayed} tasks will be retried**, the first${when} (attempt ${nextAttempt?.number ?? 2})${after}.`;
}

const count = (n: number, word: string): string => `${n} ${n === 1 ? word : `${word}s`}`;
const since = (ms: number, nowMs: number): string => (ms > 0 ? ` since ${showTime(ms, nowMs)}` : '');
