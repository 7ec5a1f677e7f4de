import { proxyActivities } from '@temporalio/workflow';

/** The workflows for comparison: what any durable execution costs on this server. */

const { nothing } = proxyActivities<{ nothing(): Promise<void> }>({ startToCloseTimeout: '1 minute' });

export async function empty(): Promise<void> {}

/** A plain Temporal application: a workflow for each call, which runs it as an activity. */
export async function oneActivity(): Promise<void> {
  await nothing();
}
