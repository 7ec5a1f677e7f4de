-- What the life of a submission needs beyond the first schema.

-- Owners take turns over claims as well, not only within one: with one free place at a time the oldest task would always win.
alter table task_queues add column last_owner uuid;
-- The claim whose publishing a pump has not finished; null when the last one ended well.
alter table task_queues add column pump_claim text;

-- The walltime counts from here, not from the dispatch: an attempt may wait at its agent for long.
alter table tasks add column running_at timestamptz;
-- Since when no heartbeat of the agent names the attempt.
alter table tasks add column missing_since timestamptz;
create index tasks_undelivered on tasks (answered_at) where answered_at is not null and delivered_at is null;

create index submissions_open on submissions (id) where open > 0;
create index endpoints_deleted on endpoints (deleted_at) where deleted_at is not null;
-- When everything that a deleted endpoint left behind was removed.
alter table endpoints add column swept_at timestamptz;

alter table dead_letters add column routing_key text;

-- functions.sql makes them again, with other arguments and results.
drop function if exists claim_tasks(uuid, text, integer, bigint);
drop function if exists needs_pump(uuid);
drop function if exists complete_tasks(uuid[], uuid[], integer[], text[], bytea[], bigint[]);
drop type if exists completing_task;
drop function if exists requeue_lost(uuid[], integer);
