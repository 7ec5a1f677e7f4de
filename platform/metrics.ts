import { Counter, register } from 'prom-client';

/** Counters of the service, made once a process. Labels are few and never ids. */

function counter<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Counter<Label> {
  const existing = register.getSingleMetric(name) as Counter<Label> | undefined; // a test may load the module twice
  return existing ?? new Counter<Label>({ name, help, labelNames: [...labelNames] });
}

/** Starts of submission workflows, by whether this process got the first workflow task with the answer. */
export const workflowStarts = counter('funcx_workflow_starts_total', 'Starts of submission workflows.', ['eager']);
export const resultsByVerdict = counter('funcx_results_total', 'Results from agents, by what became of them.', ['verdict']);
export const lostAttempts = counter('funcx_lost_attempts_total', 'Attempts that no agent held any more.', ['outcome']);
export const deadLetters = counter('funcx_dead_letters_total', 'Messages put aside because they were not well formed.', [
  'queue',
]);
