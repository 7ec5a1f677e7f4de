import { defineQuery, defineSignal, setCurrentDetails, setHandler, workflowInfo } from '@temporalio/workflow';

import { callLine, escapeMarkdown } from '../../contracts/call-details';
import { PROGRESS_SIGNAL, type CallProgress } from '../../contracts/calls';

/** Tracks the calls of this workflow for its current details. Each workflow has its own copy of this module's variables. */

interface OpenCall {
  label: string;
  endpoint: string;
  latest?: CallProgress;
}

export const callsQuery = defineQuery<CallProgress[]>('funcxCalls');
const progressSignal = defineSignal<[CallProgress]>(PROGRESS_SIGNAL);

const MAX_ENDED_SHOWN = 10;

const open = new Map<string, OpenCall>();
const ended: string[] = [];
let finished = 0;
let failed = 0;
let isListening = false;
let isShown = true;

/** With false, stops updating the workflow's current details. The author can include {@link describeCalls} in other details. */
export function showCalls(show: boolean): void {
  isShown = show;
}

/** Returns Markdown about this workflow's calls: open calls with their state, counts, and the calls that ended last. */
export function describeCalls(): string {
  const lines = [...open].map(([callId, call]) =>
    call.latest
      ? `- ${callLine(call.latest)}`
      : `- **${escapeMarkdown(call.label)}** on **${escapeMarkdown(call.endpoint)}**: started ${linkToCall(callId)}`,
  );
  return [
    `Calls: ${open.size} open, ${finished} finished, ${failed} failed`,
    ...(lines.length > 0 ? ['', ...lines] : []),
    ...(ended.length > 0 ? ['', 'Last ended:', '', ...ended] : []),
  ].join('\n');
}

export function callStarted(callId: string, label: string, endpoint: string): void {
  if (!isListening) {
    isListening = true;
    setHandler(progressSignal, (progress) => {
      const call = open.get(progress.callId);
      if (!call) return; // the call has already ended
      call.latest = progress;
      show();
    });
    setHandler(callsQuery, () => [...open.values()].flatMap(({ latest }) => (latest ? [latest] : [])));
  }
  open.set(callId, { label, endpoint });
  show();
}

export function callEnded(callId: string, failure?: unknown): void {
  const call = open.get(callId);
  open.delete(callId);
  if (failure === undefined) finished++;
  else failed++;
  const what = `**${escapeMarkdown(call?.label ?? callId)}** on **${escapeMarkdown(call?.endpoint ?? '')}**`;
  const links = call?.latest?.links.map((url) => ` [submission](${url})`).join('') ?? ` ${linkToCall(callId)}`;
  ended.push(`- ${what} ${failure === undefined ? 'finished' : `failed: ${escapeMarkdown(firstLine(failure))}`}${links}`);
  if (ended.length > MAX_ENDED_SHOWN) ended.shift();
  show();
}

/** Links to a call in the Temporal UI. Used for calls that have not reported their submissions, which are child workflows. */
function linkToCall(callId: string): string {
  return `[call](/namespaces/${encodeURIComponent(workflowInfo().namespace)}/workflows/${encodeURIComponent(callId)})`;
}

function firstLine(failure: unknown): string {
  const text = failure instanceof Error ? failure.message : String(failure);
  return (text.trimEnd().split('\n').at(-1) ?? '').slice(0, 200);
}

function show(): void {
  if (isShown) setCurrentDetails(describeCalls());
}
