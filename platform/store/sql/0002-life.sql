-- What the life of a submission needs beyond the first schema.

-- The owner whose task was claimed last; the next claim starts with the next owner. Without it, the oldest task would always win
-- when one place becomes free at a time.
alter table task_queues add column last_owner uuid;
-- The last claim of the running pump, so that a retried pump repeats it. Null when no pump runs.
alter table task_queues add column pump_claim text;

-- The walltime starts here and not at the dispatch, because an attempt may wait at its agent for a long time.
alter table tasks add column running_at timestamptz;
-- Since when no heartbeat of the agent names the attempt.
alter table tasks add column missing_since timestamptz;
create index tasks_undelivered on tasks (answered_at) where answered_at is not null and delivered_at is null;

create index submissions_open on submissions (id) where open > 0;
create index endpoints_deleted on endpoints (deleted_at) where deleted_at is not null;
-- When the last cleanup of a deleted endpoint ended.
alter table endpoints add column swept_at timestamptz;

alter table dead_letters add column routing_key text;

-- The files in functions/ create these again, with other arguments and results.
drop function if exists claim_tasks(uuid, text, integer, bigint);
drop function if exists needs_pump(uuid);
drop function if exists complete_tasks(uuid[], uuid[], integer[], text[], bytea[], bigint[]);
drop type if exists completing_task;
drop function if exists requeue_lost(uuid[], integer);
