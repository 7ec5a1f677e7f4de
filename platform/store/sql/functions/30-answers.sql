-- Stores results. The first stored result of a task is its answer. The order of locks is described in 20-dispatch.sql.

-- A complete result message ends with a brace. A message that ends with a colon lacks its value, which was uploaded over HTTP.
create or replace function lacks_value(p_frame bytea) returns boolean language sql immutable parallel safe as $$
  select get_byte(p_frame, octet_length(p_frame) - 1) = 58
$$;

-- Completes a result message with its uploaded value.
create or replace function frame_of_upload(p_frame bytea, p_id uuid, p_attempt integer) returns bytea language sql stable as $$
  select p_frame || convert_to(to_json(convert_from(upload.body, 'UTF8'))::text || '}}', 'UTF8')
    from uploads upload where upload.id = p_id and upload.attempt = p_attempt
$$;

create or replace function upload_bytes(p_id uuid, p_attempt integer) returns bigint language sql stable as $$
  select coalesce((select octet_length(upload.body) from uploads upload
                    where upload.id = p_id and upload.attempt = p_attempt), 0)
$$;

-- What happens to one result:
--   stored     it is the task's answer
--   retry      the attempt failed and another attempt follows
--   duplicate  the task already has its answer
--   stale      a failure of an attempt that was requeued or followed by another attempt
--   foreign    from an agent to which the task was not dispatched
--   unknown    no such task
-- `p_task_state` is null for an unknown task. `p_queue` is the queue from which the result came, null for a result that the
-- service created. `p_attempt` is null for a result that holds for every attempt (cancelled, expired).
create or replace function verdict_of(
  p_task_state text, p_task_queue uuid, p_task_attempt integer, p_queue uuid, p_attempt integer, p_state text,
  p_is_retried boolean) returns text language sql immutable parallel safe as $$
  select case
    when p_task_state is null then 'unknown'
    when p_queue is not null and (p_queue <> p_task_queue or p_task_attempt = 0) then 'foreign'
    when is_answered(p_task_state) then 'duplicate'
    when p_state <> 'succeeded' and p_attempt < p_task_attempt then 'stale'
    -- The attempt was requeued before its failure arrived, and the task waits for its next attempt.
    when p_task_state = 'waiting' and p_state <> 'succeeded' and p_attempt is not null
      and (p_is_retried or p_queue is null) then 'stale'
    when p_is_retried then 'retry'
    else 'stored'
  end
$$;

do $$ begin
  create type completing_task as (
    n bigint, id uuid, state text, attempt integer, retry_ms bigint, is_loss boolean, verdict text, old_state text,
    old_attempt integer, owner_id uuid, endpoint_queue_id uuid, task_group_id uuid, has_queue boolean, seq bigint,
    delivered boolean);
exception when duplicate_object then null;
end $$;

-- How many tasks may be in flight: `p_floor` plus the work of `p_span_s`, by the measured rate or by half of the capacity that
-- the agent reports, whichever is greater. The rate alone is not enough: if the time from dispatch to result exceeds the span, a
-- small window keeps the rate low, and a low rate keeps the window small.
create or replace function window_of(p_floor integer, p_span_s double precision, p_rate double precision, p_capacity double precision)
returns integer language sql immutable parallel safe as $$
  select least(50000, p_floor + ceil(p_span_s * greatest(p_rate, p_capacity / 2)))::integer
$$;

-- Stores a batch of results. `p_retry_ms` is the delay before another attempt, null if the result is final. `p_losses` marks lost
-- attempts, which do not count as the user's attempts. `p_errors` has the last line of each failure, and `p_capacities` the calls
-- per second that the agent could run. Processes of earlier versions send neither.
drop function if exists complete_tasks(uuid[], uuid[], integer[], text[], bytea[], bigint[], boolean[], text[]);
drop function if exists complete_tasks(
  uuid[], uuid[], integer[], text[], bytea[], bigint[], boolean[], text[], double precision[]);
create or replace function complete_tasks(
  p_ids uuid[], p_queues uuid[], p_attempts integer[], p_states text[], p_frames bytea[], p_retry_ms bigint[],
  p_losses boolean[], p_errors text[] default null, p_capacities double precision[] default null)
returns table (
  id uuid, verdict text, delivered boolean, frame bytea, owner_id uuid, task_group_id uuid, has_queue boolean,
  submission_id uuid, submission_open integer, nudge boolean, old_state text, old_attempt integer, workflow_id text,
  has_batch_queue boolean)
-- A generic plan, because planning each call costs more than it saves (2.6 instead of 1.6 ms with 33 partitions).
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
  v_results completing_task[];
  v_from uuid;
  v_to uuid;
  v_groups uuid[];
  v_batch_queues uuid[];
begin
  v_from := (select task_id from unnest(p_ids) task_id order by task_id limit 1);
  v_to := (select task_id from unnest(p_ids) task_id order by task_id desc limit 1);
  perform from endpoint_queues queue
    where queue.id in (select task.endpoint_queue_id from tasks task
                        where task.id = any (p_ids) and task.id >= v_from and task.id <= v_to)
    order by queue.id for no key update;
  perform from tasks task where task.id = any (p_ids) and task.id >= v_from and task.id <= v_to
    order by task.id for no key update;
  select array_agg(distinct task.task_group_id) into v_groups
    from tasks task where task.id = any (p_ids) and task.id >= v_from and task.id <= v_to;
  perform from task_groups task_group where task_group.id = any (v_groups) order by task_group.id for no key update;
  -- Not a part of the statement that locks: a condition on the rows of a subquery limits which of them it locks.
  v_batch_queues := array(
    select task_group.id from task_groups task_group where task_group.id = any (v_groups) and task_group.has_batch_queue);

  with judged as (
    select given.n, given.id, given.state, coalesce(given.attempt, task.attempt) as attempt, given.retry_ms, given.is_loss,
           task.state as old_state, task.attempt as old_attempt, task.owner_id, task.endpoint_queue_id, task.task_group_id,
           task_group.last_seq, task_group.has_queue, task.delivered_at is not null as delivered,
           verdict_of(task.state, task.endpoint_queue_id, task.attempt, given.queue, given.attempt, given.state,
                      given.retry_ms is not null) as verdict
      from unnest(p_ids, p_queues, p_attempts, p_states, p_retry_ms, p_losses)
           with ordinality as given (id, queue, attempt, state, retry_ms, is_loss, n)
      left join tasks task on task.id = given.id and task.id = any (p_ids) and task.id >= v_from and task.id <= v_to
      left join task_groups task_group on task_group.id = task.task_group_id
  ), ranked as (
    -- If a batch has two results of one task, an answer takes precedence over a retry, then the first over the second. Foreign
    -- and stale results are ranked separately, so that they cannot displace a result that counts.
    select judged.*, row_number() over (
             partition by judged.id, judged.verdict in ('stored', 'retry')
             order by judged.verdict = 'stored' desc, judged.n) as rank
      from judged
  ), distinct_results as (
    select ranked.n, ranked.id, ranked.state, ranked.attempt, ranked.retry_ms, ranked.is_loss, ranked.old_state,
           ranked.old_attempt, ranked.owner_id, ranked.endpoint_queue_id, ranked.task_group_id, ranked.last_seq,
           ranked.has_queue, ranked.delivered,
           case when ranked.verdict in ('stored', 'retry') and ranked.rank > 1 then 'duplicate' else ranked.verdict end as verdict
      from ranked
  ), numbered as (
    select one.*, row_number() over (partition by one.task_group_id, one.verdict order by one.n) as place
      from distinct_results one
  )
  select array_agg(row(
      one.n, one.id, one.state, one.attempt, one.retry_ms, one.is_loss, one.verdict, one.old_state, one.old_attempt,
      one.owner_id, one.endpoint_queue_id, one.task_group_id, one.has_queue,
      case when one.verdict = 'stored' then one.last_seq + one.place end, one.delivered)::completing_task order by one.n)
    into v_results from numbered one;

  update tasks task set
      state = case when result.verdict = 'stored' then result.state else 'delayed' end,
      answered_at = case when result.verdict = 'stored' then now() end,
      -- A group without a queue has nothing to deliver: its answers are read from the store.
      delivered_at = case when result.verdict = 'stored' and not result.has_queue
          and result.task_group_id <> all (v_batch_queues) then now() end,
      losses = task.losses
        + case when result.verdict = 'retry' and result.is_loss and task.state <> 'delayed' then 1 else 0 end,
      -- The same failure again (its first message was not acknowledged) does not extend the delay.
      due_at = case when result.verdict = 'retry'
        then coalesce(task.due_at, now() + result.retry_ms * interval '1 millisecond') end,
      last_error = case when result.verdict = 'retry' then p_errors[result.n] else task.last_error end
    from unnest(v_results) result
   where result.id = task.id and task.id = any (p_ids) and task.id >= v_from and task.id <= v_to
     and result.verdict in ('stored', 'retry');

  insert into results (id, task_group_id, seq, attempt, frame)
    select result.id, result.task_group_id, result.seq, result.attempt,
           case when lacks_value(given.frame) then frame_of_upload(given.frame, result.id, result.attempt) else given.frame end
      from unnest(v_results) result join unnest(p_frames) with ordinality as given (frame, n) on given.n = result.n
     where result.verdict = 'stored';

  update task_groups task_group set last_seq = latest.seq
    from (select result.task_group_id, max(result.seq) as seq from unnest(v_results) result
           where result.verdict = 'stored' group by 1) latest
   where latest.task_group_id = task_group.id;

  -- Frees places in the window. Every 150 ms, also measures the rate of results and adapts the size of the window.
  update endpoint_queues queue set
      in_flight = queue.in_flight - freed.places,
      span_answers = case when freed.is_span_over then 0 else queue.span_answers + freed.places end,
      span_started_at = case when freed.is_span_over then now() else queue.span_started_at end,
      rate = case when freed.is_span_over then freed.rate else queue.rate end,
      window_size = case when freed.is_span_over
        then window_of(queue.window_floor, queue.window_span_s, freed.rate, freed.capacity) else queue.window_size end
    from (
      select measured.id, counted.places, counted.capacity, now() - measured.span_started_at > interval '150 milliseconds' as is_span_over,
             (measured.span_answers + counted.places)
               / greatest(extract(epoch from now() - measured.span_started_at), 0.001) as rate
        from endpoint_queues measured
        join (select result.endpoint_queue_id, count(*)::integer as places,
                     max(p_capacities[result.n::integer]) as capacity
                from unnest(v_results) result
               where result.verdict in ('stored', 'retry') and is_in_flight(result.old_state) group by 1) counted
          on counted.endpoint_queue_id = measured.id
    ) freed
   where freed.id = queue.id;

  -- A submission is nudged for its last answer, for a retry that needs a decision, and otherwise at most every 5 s. A
  -- duplicate may follow a crash that prevented the nudge, so it nudges if all tasks are answered and the submission is not
  -- finished.
  return query
    with changes as (
      select submission_of(result.id) as submission_id, count(*) filter (where result.verdict = 'stored')::integer as stored,
             count(*) filter (where result.verdict = 'stored' and result.state = 'failed')::integer as failed,
             count(*) filter (where result.verdict = 'stored' and result.state = 'cancelled')::integer as cancelled,
             count(*) filter (where result.verdict = 'stored' and result.state = 'expired')::integer as expired,
             bool_or(result.verdict = 'retry') as has_retry,
             coalesce(sum(octet_length(given.frame) + case when lacks_value(given.frame) then upload_bytes(result.id, result.attempt) else 0 end)
               filter (where result.verdict = 'stored'), 0) as bytes
        from unnest(v_results) result join unnest(p_frames) with ordinality as given (frame, n) on given.n = result.n
       where result.verdict in ('stored', 'retry') group by 1
    ), lowered as (
      update submissions submission set
          open = submission.open - change.stored,
          failed = submission.failed + change.failed,
          cancelled = submission.cancelled + change.cancelled,
          expired = submission.expired + change.expired,
          stored_bytes = submission.stored_bytes + change.bytes,
          nudged_at = case when submission.open = change.stored or change.has_retry
                             or submission.nudged_at < now() - interval '5 seconds'
            then now() else submission.nudged_at end
        from changes change where submission.id = change.submission_id
      returning submission.id, submission.open, submission.nudged_at = now() as nudge, submission.workflow_id
    )
    select result.id, result.verdict, result.delivered,
           case when result.verdict = 'duplicate' and not result.delivered
                  or result.verdict = 'stored' and (result.has_queue or result.task_group_id = any (v_batch_queues))
                     and lacks_value(p_frames[result.n])
                then (select stored.frame from results stored where stored.id = result.id) end,
           result.owner_id, result.task_group_id, result.has_queue, submission_of(result.id), lowered.open,
           case when result.verdict = 'duplicate' then coalesce(
                  (select submission.open = 0 and submission.finished_at is null from submissions submission
                    where submission.id = submission_of(result.id)), false)
                else coalesce(lowered.nudge, false) end,
           result.old_state, result.old_attempt,
           -- A duplicate changes no submission. Duplicates are rare enough to read the submission again.
           case when result.verdict in ('stored', 'retry') then workflow_of(lowered.id, lowered.workflow_id)
                when result.verdict = 'duplicate' then (
                  select workflow_of(submission.id, submission.workflow_id) from submissions submission
                   where submission.id = submission_of(result.id)) end,
           result.task_group_id = any (v_batch_queues)
      from unnest(v_results) result
      left join lowered on lowered.id = submission_of(result.id)
     order by result.n;
end $$;

-- Task groups that wait for the delivery of an answer, by id from `p_from` on. Skips along the index: the cost grows with these
-- groups, not with their answers. Usually nothing waits when statistics are made. The planner then expects one row, and would sort
-- all that wait for each group; therefore these settings.
create or replace function undelivered_groups(p_before timestamptz, p_from uuid, p_limit integer)
returns setof uuid language sql stable set enable_sort = off set enable_seqscan = off as $$
  with recursive waiting as (
    (select t.task_group_id as id from tasks t
      where t.answered_at < p_before and t.delivered_at is null
        and t.task_group_id >= coalesce(p_from, '00000000-0000-0000-0000-000000000000') order by 1 limit 1)
    union all
    select (select t.task_group_id from tasks t
             where t.answered_at < p_before and t.delivered_at is null and t.task_group_id > waiting.id order by 1 limit 1)
      from waiting where waiting.id is not null
  )
  select id from waiting where id is not null limit p_limit
$$;

-- The oldest answers of each group that wait for their delivery, at most `p_limit` for each. `place` is the place in the group.
create or replace function undelivered_of(p_groups uuid[], p_before timestamptz, p_limit integer)
returns table (task_id uuid, task_group_id uuid, place bigint) language sql stable rows 200
set enable_sort = off set enable_seqscan = off as $$
  select answer.id, asked.group_id, answer.place
    from unnest(p_groups) asked (group_id)
   cross join lateral (
     select t.id, row_number() over (order by t.answered_at) as place from tasks t
      where t.task_group_id = asked.group_id and t.delivered_at is null and t.answered_at < p_before
      order by t.answered_at limit p_limit) answer
$$;
