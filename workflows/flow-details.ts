import type { ShownState } from '../contracts/flow-steps';

/** The current details of a run, as short Markdown for the Temporal UI. */

export interface ShownStep extends ShownState {
  endedMs?: number;
  links?: string[];
}

export function describeRun(title: string, steps: readonly ShownStep[]): string {
  const rows = steps.map(({ name, type, state, sinceMs, endedMs, links = [] }) => {
    const linked = links.map((url, at) => `[submission${links.length > 1 ? ` ${at + 1}` : ''}](${url})`).join(' ');
    const took = endedMs === undefined ? '' : `${((endedMs - sinceMs) / 1_000).toFixed(1)} s`;
    return `| ${escape(name)} | ${type} | ${state} | ${new Date(sinceMs).toISOString()} | ${took} | ${linked} |`;
  });
  return [`**${escape(title)}**`, '', '| step | type | state | since | took | |', '|---|---|---|---|---|---|', ...rows].join(
    '\n',
  );
}

function escape(text: string): string {
  return text.replace(/[|*_`<>\\]/g, '\\$&');
}
