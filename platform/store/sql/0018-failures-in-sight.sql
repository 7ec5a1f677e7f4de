-- How many tasks of a submission ended without a value, so that lists need not read its tasks.
alter table submissions
  -- The workflow's id in Temporal, fixed at accept. Null for submissions of earlier versions; see workflow_of().
  add column workflow_id text,
  add column failed integer not null default 0,
  add column cancelled integer not null default 0,
  add column expired integer not null default 0;

update submissions submission
   set failed = ended.failed, cancelled = ended.cancelled, expired = ended.expired
  from (select (left(task.id::text, 31) || '00000')::uuid as id,
               count(*) filter (where task.state = 'failed')::integer as failed,
               count(*) filter (where task.state = 'cancelled')::integer as cancelled,
               count(*) filter (where task.state = 'expired')::integer as expired
          from tasks task where task.state in ('failed', 'cancelled', 'expired') group by 1) ended
 where ended.id = submission.id;

create index submissions_with_failures on submissions (owner_id, id) where failed + expired > 0;

-- The last line of the failure after which a task is tried again.
alter table tasks add column last_error text;

-- The function is created again with other arguments and results.
drop function if exists complete_tasks(uuid[], uuid[], integer[], text[], bytea[], bigint[], boolean[]);
