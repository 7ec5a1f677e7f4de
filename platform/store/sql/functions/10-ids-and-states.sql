-- The meaning of IDs and states in SQL. A test compares these functions with contracts/ids.ts and contracts/states.ts.
-- PostgreSQL inlines the functions, so conditions that use them still match the partial indexes.

-- The submission of a task: the task's id with index 0. The index is in the last 20 bits.
create or replace function submission_of(p_task uuid) returns uuid language sql immutable parallel safe as $$
  select (left(p_task::text, 31) || '00000')::uuid
$$;

-- The highest task ID that a submission can have, whether or not this task exists. The tasks of submission s have IDs in
-- (s, last_task_of(s)].
create or replace function last_task_of(p_submission uuid) returns uuid language sql immutable parallel safe as $$
  select (left(p_submission::text, 31) || 'fffff')::uuid
$$;

-- The task has no answer yet.
create or replace function is_open(p_task_state text) returns boolean language sql immutable parallel safe as $$
  select p_task_state in ('waiting', 'delayed', 'dispatched', 'running')
$$;

-- The latest attempt is on the broker or at the agent, and counts in endpoint_queues.in_flight.
create or replace function is_in_flight(p_task_state text) returns boolean language sql immutable parallel safe as $$
  select p_task_state in ('dispatched', 'running')
$$;

-- The task has its answer; the state never changes again.
create or replace function is_answered(p_task_state text) returns boolean language sql immutable parallel safe as $$
  select p_task_state in ('succeeded', 'failed', 'cancelled', 'expired')
$$;

-- The workflow of the submission has finished.
create or replace function is_finished(p_submission_state text) returns boolean language sql immutable parallel safe as $$
  select p_submission_state in ('done', 'cancelled', 'expired')
$$;

-- The workflow ID of a submission. Earlier versions stored none: the ID is then derived from the submission ID.
create or replace function workflow_of(p_submission uuid, p_stored text) returns text language sql immutable parallel safe as $$
  select coalesce(p_stored, 'submission/' || p_submission::text)
$$;
