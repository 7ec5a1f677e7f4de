-- The statements that change task states. Each locks in the same order: task queues, tasks, task groups, submissions.

-- Claims waiting tasks of a queue up to its window: owners take turns, each owner's by priority and age.
-- `p_bytes` bounds the bodies of one claim. A task is claimed under a claim id, so that a repeated dispatch finds its own.
create or replace function claim_tasks(p_queue uuid, p_claim text, p_limit integer, p_bytes bigint)
returns table (id uuid, attempt integer) language plpgsql as $$
declare
  q task_queues;
  v_free integer;
  v_owners integer;
  v_picked uuid[];
begin
  select * into q from task_queues tq where tq.id = p_queue for update;
  if not found then return; end if;

  -- A repeated dispatch that was killed between claim and publish: its own tasks that have no answer yet.
  return query select t.id, t.attempt from tasks t
    where t.task_queue_id = p_queue and t.state = 'dispatched' and t.claim_id = p_claim order by t.id;
  if found or not q.is_online then return; end if;

  v_free := least(q.window_size - q.in_flight, p_limit);
  if v_free <= 0 then return; end if;

  -- Distinct owners by skipping along the index: cost grows with owners, not with waiting tasks.
  with recursive owners as (
    (select t.owner_id from tasks t where t.task_queue_id = p_queue and t.state = 'waiting' order by t.owner_id limit 1)
    union all
    select (select t.owner_id from tasks t
             where t.task_queue_id = p_queue and t.state = 'waiting' and t.owner_id > o.owner_id
             order by t.owner_id limit 1)
      from owners o where o.owner_id is not null
  ), listed as (
    select o.owner_id, count(*) over () as n from owners o where o.owner_id is not null
  ), turns as (
    select w.id, w.payload_size, row_number() over (partition by l.owner_id order by w.priority desc, w.id) as turn
      from listed l
      cross join lateral (
        select t.id, t.payload_size, t.priority from tasks t
         where t.task_queue_id = p_queue and t.owner_id = l.owner_id and t.state = 'waiting'
         order by t.priority desc, t.id
         limit case when l.n > v_free then 1 else v_free end
      ) w
  ), ordered as (
    select t.id, sum(t.payload_size::bigint) over (order by t.turn, t.id) - t.payload_size as before
      from turns t order by t.turn, t.id limit v_free
  )
  select array_agg(o.id) into v_picked from ordered o where o.before < p_bytes;
  if v_picked is null then return; end if;

  return query
    with moved as (
      update tasks t set state = 'dispatched', attempt = t.attempt + 1, claim_id = p_claim, dispatched_at = now(), due_at = null
       where t.id = any (v_picked) and t.state = 'waiting'
      returning t.id, t.attempt
    ), counted as (
      update task_queues tq set in_flight = tq.in_flight + (select count(*) from moved) where tq.id = p_queue
    )
    select m.id, m.attempt from moved m order by m.id;
end $$;

-- Whether tasks wait at an online queue and no living pump looks after them.
create or replace function needs_pump(p_queue uuid) returns boolean language sql stable as $$
  select tq.is_online
     and (tq.pump_alive_at is null or tq.pump_alive_at < now() - interval '15 seconds')
     and exists (select 1 from tasks t where t.task_queue_id = p_queue and t.state = 'waiting')
    from task_queues tq where tq.id = p_queue
$$;

-- A pump says that it is alive, or, with nothing left to do, that it ends. Returns false when it ended.
create or replace function keep_pumping(p_queue uuid) returns boolean language plpgsql as $$
declare
  v_more boolean;
begin
  perform 1 from task_queues tq where tq.id = p_queue for update;
  select tq.is_online and exists (select 1 from tasks t where t.task_queue_id = p_queue and t.state = 'waiting')
    into v_more from task_queues tq where tq.id = p_queue;
  update task_queues tq set pump_alive_at = case when v_more then now() end where tq.id = p_queue;
  return coalesce(v_more, false);
end $$;

do $$ begin
  create type completing_task as (
    n bigint, id uuid, state text, attempt integer, retry_ms bigint, verdict text, old_state text, owner_id uuid,
    task_queue_id uuid, task_group_id uuid, seq bigint, delivered boolean);
exception when duplicate_object then null;
end $$;

-- Stores answers: the first one of a task wins. `p_queues` names the queue an answer came from, null for the service's own.
-- `p_retry_ms` is the pause before another attempt where a failure is not the answer yet.
-- Verdicts: stored, retry, duplicate (answered before), stale (an older attempt's failure), foreign, unknown.
create or replace function complete_tasks(
  p_ids uuid[], p_queues uuid[], p_attempts integer[], p_states text[], p_frames bytea[], p_retry_ms bigint[])
returns table (
  id uuid, verdict text, delivered boolean, frame bytea, owner_id uuid, task_group_id uuid, has_queue boolean,
  submission_id uuid, submission_open integer, nudge boolean)
language plpgsql as $$
declare
  rows completing_task[];
begin
  perform 1 from task_queues tq
    where tq.id in (select t.task_queue_id from tasks t where t.id = any (p_ids)) order by tq.id for update;
  perform 1 from tasks t where t.id = any (p_ids) order by t.id for update;
  perform 1 from task_groups g
    where g.id in (select t.task_group_id from tasks t where t.id = any (p_ids)) order by g.id for update;

  select array_agg(row(
      j.n, j.id, j.state, j.attempt, j.retry_ms, j.verdict, j.old_state, j.owner_id, j.task_queue_id, j.task_group_id,
      case when j.verdict = 'stored' then j.last_seq + j.rank end, j.delivered)::completing_task order by j.n)
    into rows
    from (
      select k.*, row_number() over (partition by k.task_group_id, k.verdict order by k.n) as rank
        from (
          select i.n, i.id, i.state, i.attempt, i.retry_ms, t.state as old_state, t.owner_id, t.task_queue_id, t.task_group_id,
                 g.last_seq, t.delivered_at is not null as delivered,
                 case
                   when t.id is null then 'unknown'
                   when i.queue is not null and i.queue <> t.task_queue_id then 'foreign'
                   when t.state in ('succeeded', 'failed', 'cancelled', 'expired') then 'duplicate'
                   when i.state <> 'succeeded' and i.queue is not null and i.attempt < t.attempt then 'stale'
                   -- The same task twice in one batch: the first answer counts.
                   when row_number() over (partition by i.id order by i.n) > 1 then 'duplicate'
                   when i.retry_ms is not null then 'retry'
                   else 'stored' end as verdict
            from unnest(p_ids, p_queues, p_attempts, p_states, p_retry_ms)
                 with ordinality as i (id, queue, attempt, state, retry_ms, n)
            left join tasks t on t.id = i.id and t.id = any (p_ids)
            left join task_groups g on g.id = t.task_group_id
        ) k
    ) j;

  update tasks t set
      state = case when c.verdict = 'stored' then c.state else 'delayed' end,
      answered_at = case when c.verdict = 'stored' then now() end,
      due_at = case when c.verdict = 'retry' then now() + c.retry_ms * interval '1 millisecond' end
    from unnest(rows) c where c.id = t.id and t.id = any (p_ids) and c.verdict in ('stored', 'retry');

  insert into results (id, task_group_id, seq, attempt, frame)
    select c.id, c.task_group_id, c.seq, c.attempt,
           -- A message ends with a brace; one that ends before its value gets it from the upload.
           case when get_byte(f.frame, octet_length(f.frame) - 1) = 58 then frame_of_upload(f.frame, c.id, c.attempt) else f.frame end
      from unnest(rows) c join unnest(p_frames) with ordinality as f (frame, n) on f.n = c.n
     where c.verdict = 'stored';

  update task_groups g set last_seq = s.seq
    from (select c.task_group_id, max(c.seq) as seq from unnest(rows) c where c.verdict = 'stored' group by 1) s
   where s.task_group_id = g.id;

  update task_queues tq set
      in_flight = tq.in_flight - s.n,
      span_answers = case when s.is_over then 0 else tq.span_answers + s.n end,
      span_started_at = case when s.is_over then now() else tq.span_started_at end,
      rate = case when s.is_over then s.rate else tq.rate end,
      window_size = case when s.is_over
        then least(50000, tq.window_floor + ceil(tq.window_span_s * s.rate))::integer else tq.window_size end
    from (
      select q.id, x.n, now() - q.span_started_at > interval '150 milliseconds' as is_over,
             (q.span_answers + x.n) / greatest(extract(epoch from now() - q.span_started_at), 0.001) as rate
        from task_queues q
        join (select c.task_queue_id, count(*)::integer as n from unnest(rows) c
               where c.verdict in ('stored', 'retry') and c.old_state in ('dispatched', 'running') group by 1) x
          on x.task_queue_id = q.id
    ) s
   where s.id = tq.id;

  -- A submission is nudged when it has its last answer, when a task waits for its decision, else at most every 5 s.
  return query
    with counts as (
      select (left(c.id::text, 31) || '00000')::uuid as submission, count(*) filter (where c.verdict = 'stored')::integer as stored,
             bool_or(c.verdict = 'retry') as decides
        from unnest(rows) c where c.verdict in ('stored', 'retry') group by 1
    ), lowered as (
      update submissions s set
          open = s.open - x.stored,
          nudged_at = case when s.open = x.stored or x.decides or s.nudged_at < now() - interval '5 seconds'
            then now() else s.nudged_at end
        from counts x where s.id = x.submission
      returning s.id, s.open, s.nudged_at = now() as nudge
    )
    select c.id, c.verdict, c.delivered,
           case when c.verdict = 'duplicate' and not c.delivered
                  or c.verdict = 'stored' and g.has_queue and get_byte(p_frames[c.n], octet_length(p_frames[c.n]) - 1) = 58
                then (select r.frame from results r where r.id = c.id) end,
           c.owner_id, c.task_group_id, g.has_queue, (left(c.id::text, 31) || '00000')::uuid, l.open, coalesce(l.nudge, false)
      from unnest(rows) c
      left join task_groups g on g.id = c.task_group_id
      left join lowered l on l.id = (left(c.id::text, 31) || '00000')::uuid
     order by c.n;
end $$;

-- Attempts that nobody holds go back to waiting; those lost too often are returned for a final answer.
create or replace function requeue_lost(p_ids uuid[], p_max_losses integer)
returns table (id uuid, attempt integer, is_final boolean) language plpgsql as $$
begin
  perform 1 from task_queues tq
    where tq.id in (select t.task_queue_id from tasks t where t.id = any (p_ids)) order by tq.id for update;
  return query
    with lost as (
      select t.id, t.attempt, t.losses, t.task_queue_id from tasks t
       where t.id = any (p_ids) and t.state in ('dispatched', 'running') order by t.id for update
    ), moved as (
      update tasks t set state = 'waiting', losses = t.losses + 1, claim_id = null
        from lost l where l.id = t.id and l.losses < p_max_losses
      returning t.id, t.task_queue_id
    ), counted as (
      update task_queues tq set in_flight = tq.in_flight - s.n
        from (select m.task_queue_id, count(*)::integer as n from moved m group by 1) s where s.task_queue_id = tq.id
    )
    select l.id, l.attempt, not exists (select 1 from moved m where m.id = l.id) from lost l;
end $$;

-- Delayed tasks of a submission that are due wait for dispatch again. Returns how many.
create or replace function release_due(p_from uuid, p_to uuid) returns integer language sql as $$
  with released as (
    update tasks t set state = 'waiting', due_at = null
     where t.id > p_from and t.id <= p_to and t.state = 'delayed' and t.due_at <= now() + interval '5 milliseconds'
    returning 1
  ) select count(*)::integer from released
$$;

-- The body of a task as an agent gets it. With references, the stored text is the begin of a JSON list whose last member is the
-- list of the referenced buffers; they are put in here, so that no process of ours holds them.
create or replace function task_payload(p_id uuid) returns bytea language plpgsql stable as $$
declare
  v_body bytea;
  v_buffers text;
  v_buffer text;
begin
  select p.body into v_body from payloads p where p.id = p_id;
  select string_agg((convert_from(substring(r.frame from 2), 'UTF8')::json #> '{data,data}')::text, ',' order by pr.position)
    into v_buffers from payload_references pr join results r on r.id = pr.source where pr.id = p_id;
  if v_buffers is null then return v_body; end if;
  v_buffer := E'11\n' || convert_from(v_body, 'UTF8') || v_buffers || ']]';
  return convert_to(char_length(v_buffer) || E'\n' || v_buffer || E'5\n11\n{}', 'UTF8');
end $$;

-- The message of a result that was left over HTTP: `p_frame` ends where the value begins.
create or replace function frame_of_upload(p_frame bytea, p_id uuid, p_attempt integer) returns bytea language sql stable as $$
  select p_frame || convert_to(to_json(convert_from(u.body, 'UTF8'))::text || '}}', 'UTF8')
    from uploads u where u.id = p_id and u.attempt = p_attempt
$$;
