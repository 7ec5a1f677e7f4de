import { Counter, Gauge, register } from 'prom-client';

/** Metrics of the service, created once per process. Labels have few values and are never IDs. */

function counter<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Counter<Label> {
  const existing = register.getSingleMetric(name) as Counter<Label> | undefined; // a test may load this module twice
  return existing ?? new Counter<Label>({ name, help, labelNames: [...labelNames] });
}

export const workflowStarts = counter(
  'funcx_workflow_starts_total',
  'Starts of submission workflows, by whether the response carried the first workflow task.',
  ['eager'],
);
export const resultsByVerdict = counter('funcx_results_total', 'Results from agents, by verdict.', ['verdict']);
export const lostAttempts = counter('funcx_lost_attempts_total', 'Attempts that their agents lost, by outcome.', ['outcome']);
export const deadLetters = counter(
  'funcx_dead_letters_total',
  'Messages moved to the dead letters because they could not be processed.',
  ['queue'],
);

/** A gauge starts at 0. In a process that never sets it, 0 would look like a failure. */
function withoutValue(gauge: Gauge): Gauge {
  gauge.remove();
  return gauge;
}

const PARTITION_DAYS = 'funcx_partition_days_ahead';
export const partitionDaysAhead =
  (register.getSingleMetric(PARTITION_DAYS) as Gauge | undefined) ??
  withoutValue(new Gauge({ name: PARTITION_DAYS, help: 'Days after today for which the partitions of the store exist.' }));

const BLOCKED = 'funcx_broker_blocked';
export const brokerBlocked =
  (register.getSingleMetric(BLOCKED) as Gauge | undefined) ??
  new Gauge({ name: BLOCKED, help: '1 while the message broker accepts no messages because it lacks memory or disk space.' });
