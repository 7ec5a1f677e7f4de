import { ApplicationFailure, condition, defineQuery, defineUpdate, setHandler } from '@temporalio/workflow';

import { call } from '@funcx-temporal/sdk/workflow';

import { publish, summarize, type Summary } from './functions';

export interface Decision {
  by: string;
  approved: boolean;
}

export const decide = defineUpdate<string, [Decision]>('decide');
export const summaryQuery = defineQuery<Summary | undefined>('summary');

/** Summarizes on one endpoint, waits until a person decides, however long that takes, then publishes on another endpoint. */
export async function publishAfterApproval(samples: number[], cluster: string, laptop: string): Promise<string> {
  const state: { summary?: Summary; decision?: Decision } = {};
  setHandler(summaryQuery, () => state.summary);
  setHandler(
    decide,
    (given) => {
      state.decision = given;
      return given.approved ? 'it will be published' : 'it will not be published';
    },
    {
      validator: (given: Decision) => {
        if (!state.summary) throw new Error('there is no summary to decide about yet');
        const earlier: Decision | undefined = state.decision;
        if (earlier) throw new Error(`${earlier.by} decided already`);
        if (given.by === '') throw new Error('say who decides');
      },
    },
  );
  const summary = await call(summarize, [samples], { endpoint: cluster });
  state.summary = summary;
  await condition(() => state.decision !== undefined);
  const { approved, by } = decided(state);
  if (!approved) throw ApplicationFailure.nonRetryable(`${by} did not approve`, 'NotApproved');
  return call(publish, [summary, by], { endpoint: laptop });
}

/** TypeScript does not know that the update handler set the decision while the workflow waited. */
function decided({ decision }: { decision?: Decision }): Decision {
  if (!decision) throw new Error('nobody decided');
  return decision;
}
