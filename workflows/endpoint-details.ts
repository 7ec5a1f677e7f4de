import { escapeMarkdown } from '../contracts/call-details';
import { MAX_SHOWN_TASKS, type QueueState } from '../contracts/submission';
import { describeQueue } from './details';
import { showTime } from './shown-time';

export interface ShownEndpoint {
  endpointName: string;
  isOnline: boolean;
  /** When the endpoint went online or offline; Unix milliseconds. */
  sinceMs: number;
  isPumping: boolean;
  isGone: boolean;
  /** The latest counts; undefined if no tasks are known to wait. */
  queue: QueueState | undefined;
  /** Tasks that had to wait before they were sent. */
  dispatched: number;
}

/** The current details of an endpoint, as short Markdown for the Temporal UI: its presence, what waits, and what to do. */
export function describeEndpoint(endpoint: ShownEndpoint, nowMs: number): string {
  const name = escapeMarkdown(endpoint.endpointName);
  if (endpoint.isGone) return `**${name}** was deleted. Its open tasks failed with EndpointDeleted.`;
  const presence = endpoint.isOnline ? 'online' : 'offline';
  return [
    `**${name}** has been **${presence}** since ${showTime(endpoint.sinceMs, nowMs)}`,
    '',
    ...linesOf(endpoint, nowMs).map((line) => `- ${line}`),
    '',
    `Sent to the agent after waiting: ${endpoint.dispatched} tasks. Last updated ${showTime(nowMs, nowMs)}. The state now: \`funcx endpoint status ${endpoint.endpointName}\`.`,
  ].join('\n');
}

function linesOf({ endpointName, isOnline, isPumping, queue }: ShownEndpoint, nowMs: number): string[] {
  if (isOnline) {
    if (!isPumping) return ['Nothing waits here.'];
    return [queue === undefined ? 'Tasks wait; they are sent as places become free.' : `**Tasks wait**: ${describeQueue(queue)}`];
  }
  const start = `To bring it back, start its agent on its machine: \`funcx endpoint start ${endpointName}\`.`;
  if (queue === undefined || queue.waiting === 0) return ['Nothing is known to wait here.', start];
  const { waiting, owners, ownerNames, oldestMs } = queue;
  const tasks =
    waiting >= MAX_SHOWN_TASKS ? `More than ${waiting} tasks wait` : waiting === 1 ? '1 task waits' : `${waiting} tasks wait`;
  const oldest = oldestMs === null ? '' : `, the oldest since ${showTime(oldestMs, nowMs)}`;
  const shownOwners = ownerNames.map(escapeMarkdown).join(', ') + (owners > ownerNames.length ? ' and others' : '');
  return [
    `**${tasks}** for its agent${oldest}. Owners: ${shownOwners}.`,
    start,
    `To see what waits: \`funcx submission list --endpoint ${endpointName} --open\`. To give it up: \`funcx cancel submission ID\`.`,
  ];
}
