-- The statements that change task states. Each locks in the same order: endpoint queues, tasks, task groups, submissions; rows
-- of one table by id. "for no key update" because an accept takes key locks on queues and groups by its foreign keys.
-- Ranges of ids stand beside every list of ids: a list alone does not lead the planner to the partitions.

-- Claims waiting tasks of a queue up to its window: owners take turns, each owner's by priority and age.
-- `p_bytes` bounds the bodies of one claim. A task is claimed under a claim id, so that a repeated dispatch finds its own.
create or replace function claim_tasks(p_queue uuid, p_claim text, p_limit integer, p_bytes bigint)
returns table (id uuid, attempt integer) language plpgsql as $$
declare
  q endpoint_queues;
  v_free integer;
  v_picked uuid[];
  v_owner uuid;
  v_from uuid;
  v_to uuid;
begin
  select * into q from endpoint_queues tq where tq.id = p_queue for no key update;
  if not found then return; end if;

  -- A repeated dispatch that was killed between claim and publish: its own tasks that have no answer yet.
  if q.in_flight > 0 then
    return query select t.id, t.attempt from tasks t
      where t.endpoint_queue_id = p_queue and t.state = 'dispatched' and t.claim_id = p_claim order by t.id;
    if found then return; end if;
  end if;
  v_free := least(q.window_size - q.in_flight, p_limit);
  if v_free <= 0 or not q.is_online then return; end if;

  -- Distinct owners by skipping along the index: cost grows with owners, not with waiting tasks.
  with recursive owners as (
    (select t.owner_id from tasks t where t.endpoint_queue_id = p_queue and t.state = 'waiting' order by t.owner_id limit 1)
    union all
    select (select t.owner_id from tasks t
             where t.endpoint_queue_id = p_queue and t.state = 'waiting' and t.owner_id > o.owner_id
             order by t.owner_id limit 1)
      from owners o where o.owner_id is not null
  ), listed as (
    -- Whose turn it is: those after the owner that was served last, then those before.
    select o.owner_id, count(*) over () as n,
           row_number() over (order by coalesce(o.owner_id <= q.last_owner, false), o.owner_id) as place
      from owners o where o.owner_id is not null
  ), turns as (
    select w.id, w.payload_size, l.owner_id, l.place,
           row_number() over (partition by l.owner_id order by w.priority desc, w.id) as turn
      from listed l
      cross join lateral (
        select t.id, t.payload_size, t.priority from tasks t
         where t.endpoint_queue_id = p_queue and t.owner_id = l.owner_id and t.state = 'waiting'
         order by t.priority desc, t.id
         limit case when l.n > v_free then 1 else v_free end
      ) w
     where l.place <= v_free
  ), ordered as (
    select t.id, t.owner_id, row_number() over (order by t.turn, t.place) as n,
           sum(t.payload_size::bigint) over (order by t.turn, t.place) - t.payload_size as before
      from turns t order by t.turn, t.place limit v_free
  )
  select array_agg(o.id), (array_agg(o.owner_id order by o.n desc))[1] into v_picked, v_owner
    from ordered o where o.before < p_bytes;
  if v_picked is null then return; end if;
  v_from := (select p from unnest(v_picked) p order by p limit 1);
  v_to := (select p from unnest(v_picked) p order by p desc limit 1);

  return query
    with moved as (
      update tasks t set
          state = 'dispatched', attempt = t.attempt + 1, claim_id = p_claim, dispatched_at = now(),
          due_at = null, running_at = null, missing_since = null
       where t.id = any (v_picked) and t.state = 'waiting'
         and t.id >= v_from and t.id <= v_to
      returning t.id, t.attempt
    ), counted as (
      update endpoint_queues tq set
          in_flight = tq.in_flight + (select count(*) from moved), last_owner = v_owner,
          pump_claim = case when p_claim like 'pump/%' then p_claim else tq.pump_claim end
       where tq.id = p_queue
    ), shown as (
      update submissions s set state = 'running'
       where s.id in (select (left(m.id::text, 31) || '00000')::uuid from moved m) and s.state = 'waiting'
    )
    select m.id, m.attempt from moved m order by m.id;
end $$;

-- Asks for a pump where tasks wait at an online queue and no living pump looks after them. True at most once in 15 s:
-- who gets it calls the endpoint's workflow, everybody else may rely on that.
create or replace function ask_for_pump(p_queue uuid) returns boolean language sql as $$
  with asked as (
    update endpoint_queues tq set pump_alive_at = now()
     where tq.id = p_queue and tq.is_online
       and (tq.pump_alive_at is null or tq.pump_alive_at < now() - interval '15 seconds')
       and exists (select 1 from tasks t where t.endpoint_queue_id = p_queue and t.state = 'waiting')
    returning 1
  ) select exists (select 1 from asked)
$$;

-- A pump says that it is alive, or, with nothing left to do, that it ends. Returns false when it ended.
create or replace function keep_pumping(p_queue uuid) returns boolean language plpgsql as $$
declare
  v_more boolean;
begin
  perform 1 from endpoint_queues tq where tq.id = p_queue for no key update;
  select tq.is_online and exists (select 1 from tasks t where t.endpoint_queue_id = p_queue and t.state = 'waiting')
    into v_more from endpoint_queues tq where tq.id = p_queue;
  update endpoint_queues tq set
      pump_alive_at = case when v_more then now() end, pump_claim = case when v_more then tq.pump_claim end
   where tq.id = p_queue;
  return coalesce(v_more, false);
end $$;

do $$ begin
  create type completing_task as (
    n bigint, id uuid, state text, attempt integer, retry_ms bigint, is_loss boolean, verdict text, old_state text,
    old_attempt integer, owner_id uuid, endpoint_queue_id uuid, task_group_id uuid, has_queue boolean, seq bigint,
    delivered boolean);
exception when duplicate_object then null;
end $$;

-- Stores answers: the first one of a task wins. `p_queues` names the queue an answer came from, null for the service's own.
-- `p_attempts` may be null for an answer of the service's own that does not depend on the attempt (cancelled, expired).
-- `p_retry_ms` is the pause before another attempt where a failure is not the answer yet; `p_losses` says that the attempt
-- was lost and is not one of the user's.
-- Verdicts: stored, retry, duplicate (answered before), stale (a failure of an attempt that was given up), foreign (from an
-- agent that the task was not sent to), unknown.
create or replace function complete_tasks(
  p_ids uuid[], p_queues uuid[], p_attempts integer[], p_states text[], p_frames bytea[], p_retry_ms bigint[],
  p_losses boolean[])
returns table (
  id uuid, verdict text, delivered boolean, frame bytea, owner_id uuid, task_group_id uuid, has_queue boolean,
  submission_id uuid, submission_open integer, nudge boolean, old_state text, old_attempt integer)
-- Planning for each call costs more than the call: 2.6 instead of 1.6 ms with 33 partitions.
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
  rows completing_task[];
  v_from uuid;
  v_to uuid;
  v_groups uuid[];
begin
  v_from := (select i from unnest(p_ids) i order by i limit 1);
  v_to := (select i from unnest(p_ids) i order by i desc limit 1);
  perform 1 from endpoint_queues tq
    where tq.id in (select t.endpoint_queue_id from tasks t where t.id = any (p_ids) and t.id >= v_from and t.id <= v_to)
    order by tq.id for no key update;
  perform 1 from tasks t where t.id = any (p_ids) and t.id >= v_from and t.id <= v_to order by t.id for no key update;
  select array_agg(distinct t.task_group_id) into v_groups
    from tasks t where t.id = any (p_ids) and t.id >= v_from and t.id <= v_to;
  perform 1 from task_groups g where g.id = any (v_groups) order by g.id for no key update;

  select array_agg(row(
      j.n, j.id, j.state, j.attempt, j.retry_ms, j.is_loss, j.verdict, j.old_state, j.old_attempt, j.owner_id,
      j.endpoint_queue_id, j.task_group_id, j.has_queue,
      case when j.verdict = 'stored' then j.last_seq + j.rank end, j.delivered)::completing_task order by j.n)
    into rows
    from (
      select d.*, row_number() over (partition by d.task_group_id, d.verdict order by d.n) as rank
        from (
          select k.n, k.id, k.state, k.attempt, k.retry_ms, k.is_loss, k.old_state, k.old_attempt, k.owner_id,
                 k.endpoint_queue_id, k.task_group_id, k.has_queue, k.last_seq, k.delivered,
                 -- A task twice in one batch: an answer counts before a retry, the first before the second. What does not
                 -- count anyway (foreign, stale) must not stand in the way of what does.
                 case when k.verdict in ('stored', 'retry') and row_number() over (
                        partition by k.id, k.verdict in ('stored', 'retry') order by k.verdict = 'stored' desc, k.n) > 1
                   then 'duplicate' else k.verdict end as verdict
            from (
              select i.n, i.id, i.state, coalesce(i.attempt, t.attempt) as attempt, i.retry_ms, i.is_loss, t.state as old_state,
                     t.attempt as old_attempt, t.owner_id, t.endpoint_queue_id, t.task_group_id, g.last_seq, g.has_queue,
                     t.delivered_at is not null as delivered,
                     case
                       when t.id is null then 'unknown'
                       when i.queue is not null and (i.queue <> t.endpoint_queue_id or t.attempt = 0) then 'foreign'
                       when t.state in ('succeeded', 'failed', 'cancelled', 'expired') then 'duplicate'
                       when i.state <> 'succeeded' and i.attempt < t.attempt then 'stale'
                       -- The attempt was given up before its failure came; the next one is on its way.
                       when t.state = 'waiting' and i.state <> 'succeeded' and i.attempt is not null
                         and (i.retry_ms is not null or i.queue is null) then 'stale'
                       when i.retry_ms is not null then 'retry'
                       else 'stored' end as verdict
                from unnest(p_ids, p_queues, p_attempts, p_states, p_retry_ms, p_losses)
                     with ordinality as i (id, queue, attempt, state, retry_ms, is_loss, n)
                left join tasks t on t.id = i.id and t.id = any (p_ids) and t.id >= v_from and t.id <= v_to
                left join task_groups g on g.id = t.task_group_id
            ) k
        ) d
    ) j;

  update tasks t set
      state = case when c.verdict = 'stored' then c.state else 'delayed' end,
      answered_at = case when c.verdict = 'stored' then now() end,
      -- Without a queue of the group there is nothing to deliver: the answer is read from here.
      delivered_at = case when c.verdict = 'stored' and not c.has_queue then now() end,
      losses = t.losses + case when c.verdict = 'retry' and c.is_loss and t.state <> 'delayed' then 1 else 0 end,
      -- The same failure once more (its first delivery was not acknowledged) does not prolong the pause.
      due_at = case when c.verdict = 'retry' then coalesce(t.due_at, now() + c.retry_ms * interval '1 millisecond') end
    from unnest(rows) c
   where c.id = t.id and t.id = any (p_ids) and t.id >= v_from and t.id <= v_to and c.verdict in ('stored', 'retry');

  insert into results (id, task_group_id, seq, attempt, frame)
    select c.id, c.task_group_id, c.seq, c.attempt,
           -- A message ends with a brace; one that ends before its value gets it from the upload.
           case when get_byte(f.frame, octet_length(f.frame) - 1) = 58 then frame_of_upload(f.frame, c.id, c.attempt) else f.frame end
      from unnest(rows) c join unnest(p_frames) with ordinality as f (frame, n) on f.n = c.n
     where c.verdict = 'stored';

  update task_groups g set last_seq = s.seq
    from (select c.task_group_id, max(c.seq) as seq from unnest(rows) c where c.verdict = 'stored' group by 1) s
   where s.task_group_id = g.id;

  update endpoint_queues tq set
      in_flight = tq.in_flight - s.n,
      span_answers = case when s.is_over then 0 else tq.span_answers + s.n end,
      span_started_at = case when s.is_over then now() else tq.span_started_at end,
      rate = case when s.is_over then s.rate else tq.rate end,
      window_size = case when s.is_over
        then least(50000, tq.window_floor + ceil(tq.window_span_s * s.rate))::integer else tq.window_size end
    from (
      select q.id, x.n, now() - q.span_started_at > interval '150 milliseconds' as is_over,
             (q.span_answers + x.n) / greatest(extract(epoch from now() - q.span_started_at), 0.001) as rate
        from endpoint_queues q
        join (select c.endpoint_queue_id, count(*)::integer as n from unnest(rows) c
               where c.verdict in ('stored', 'retry') and c.old_state in ('dispatched', 'running') group by 1) x
          on x.endpoint_queue_id = q.id
    ) s
   where s.id = tq.id;

  -- A submission is nudged when it has its last answer, when a task waits for its decision, else at most every 5 s.
  -- A duplicate may come from a crash before the nudge: then it is made up for, unless the workflow has finished.
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
                  or c.verdict = 'stored' and c.has_queue and get_byte(p_frames[c.n], octet_length(p_frames[c.n]) - 1) = 58
                then (select r.frame from results r where r.id = c.id) end,
           c.owner_id, c.task_group_id, c.has_queue, (left(c.id::text, 31) || '00000')::uuid, l.open,
           case when c.verdict = 'duplicate' then coalesce(
                  (select s.open = 0 and s.finished_at is null from submissions s
                    where s.id = (left(c.id::text, 31) || '00000')::uuid), false)
                else coalesce(l.nudge, false) end,
           c.old_state, c.old_attempt
      from unnest(rows) c
      left join lowered l on l.id = (left(c.id::text, 31) || '00000')::uuid
     order by c.n;
end $$;

-- Attempts that nobody holds go back to waiting; those lost too often are returned for a final answer. An attempt that was
-- answered, or followed by another one, since it was looked at, is left alone.
create or replace function requeue_lost(p_ids uuid[], p_attempts integer[], p_max_losses integer)
returns table (id uuid, attempt integer, is_final boolean) language plpgsql as $$
begin
  perform 1 from endpoint_queues tq
    where tq.id in (select t.endpoint_queue_id from tasks t where t.id = any (p_ids)) order by tq.id for no key update;
  return query
    with lost as (
      select t.id, t.attempt, t.losses, t.endpoint_queue_id
        from tasks t join unnest(p_ids, p_attempts) as p (id, attempt) on p.id = t.id and p.attempt = t.attempt
       where t.id = any (p_ids) and t.state in ('dispatched', 'running') order by t.id for no key update of t
    ), moved as (
      update tasks t set state = 'waiting', losses = t.losses + 1, claim_id = null, running_at = null, missing_since = null
        from lost l where l.id = t.id and l.losses < p_max_losses
      returning t.id, t.endpoint_queue_id
    ), counted as (
      update endpoint_queues tq set in_flight = tq.in_flight - s.n
        from (select m.endpoint_queue_id, count(*)::integer as n from moved m group by 1) s where s.endpoint_queue_id = tq.id
    )
    select l.id, l.attempt, not exists (select 1 from moved m where m.id = l.id) from lost l;
end $$;

-- Delayed tasks of a submission that are due wait for dispatch again. Returns how many.
create or replace function release_due(p_from uuid, p_to uuid) returns integer language sql as $$
  with due as (
    select t.id from tasks t
     where t.id > p_from and t.id <= p_to and t.state = 'delayed' and t.due_at <= now() + interval '5 milliseconds'
     order by t.id for no key update
  ), released as (
    update tasks t set state = 'waiting', due_at = null from due d
     where t.id = d.id and t.id > p_from and t.id <= p_to returning 1
  ) select count(*)::integer from released
$$;

-- The body of a task as an agent gets it. With references, the stored text is the begin of a JSON list whose last member is the
-- list of the referenced buffers; they are put in here, so that no process of ours holds them. Null when one of them is gone.
create or replace function task_payload(p_id uuid) returns bytea language plpgsql stable as $$
declare
  v_body bytea;
  v_buffers text;
  v_buffer text;
  v_wanted integer;
  v_found integer;
begin
  select p.body into v_body from payloads p where p.id = p_id;
  select count(*), count(r.id),
         string_agg((convert_from(substring(r.frame from 2), 'UTF8')::json #> '{data,data}')::text, ',' order by pr.position)
    into v_wanted, v_found, v_buffers from payload_references pr left join results r on r.id = pr.source where pr.id = p_id;
  if v_wanted = 0 then return v_body; end if;
  if v_found < v_wanted then return null; end if;
  v_buffer := E'11\n' || convert_from(v_body, 'UTF8') || v_buffers || ']]';
  return convert_to(char_length(v_buffer) || E'\n' || v_buffer || E'5\n11\n{}', 'UTF8');
end $$;

-- The message of a result that was left over HTTP: `p_frame` ends where the value begins.
create or replace function frame_of_upload(p_frame bytea, p_id uuid, p_attempt integer) returns bytea language sql stable as $$
  select p_frame || convert_to(to_json(convert_from(u.body, 'UTF8'))::text || '}}', 'UTF8')
    from uploads u where u.id = p_id and u.attempt = p_attempt
$$;

-- Compares what is counted with what is there, in one snapshot: both change in the same transactions, so every difference is
-- a bug. Repairs it under the lock and returns it.
create or replace function reconcile_in_flight() returns table (queue_id uuid, counted integer, actual integer)
language plpgsql as $$
declare
  v_id uuid;
  v_counted integer;
  v_found integer;
begin
  for v_id in
    select q.id from endpoint_queues q
      left join (select t.endpoint_queue_id, count(*)::integer as n from tasks t
                  where t.state in ('dispatched', 'running') group by 1) x on x.endpoint_queue_id = q.id
     where q.in_flight <> coalesce(x.n, 0)
  loop
    select q.in_flight into v_counted from endpoint_queues q where q.id = v_id for no key update;
    select count(*)::integer into v_found from tasks t where t.endpoint_queue_id = v_id and t.state in ('dispatched', 'running');
    continue when v_counted = v_found;
    update endpoint_queues q set in_flight = v_found where q.id = v_id;
    queue_id := v_id; counted := v_counted; actual := v_found;
    return next;
  end loop;
end $$;

-- The same for the open tasks of submissions, of those that are `p_older` and more.
create or replace function reconcile_open(p_older interval) returns table (submission_id uuid, counted integer, actual integer)
language plpgsql as $$
declare
  v_id uuid;
  v_counted integer;
  v_found integer;
begin
  for v_id in
    select s.id from submissions s
     where s.open > 0 and s.created_at < now() - p_older
       and s.open <> (select count(*) from tasks t
                       where t.id > s.id and t.id <= (left(s.id::text, 31) || 'fffff')::uuid
                         and t.state in ('waiting', 'delayed', 'dispatched', 'running'))
  loop
    select s.open into v_counted from submissions s where s.id = v_id for no key update;
    select count(*)::integer into v_found from tasks t
     where t.id > v_id and t.id <= (left(v_id::text, 31) || 'fffff')::uuid
       and t.state in ('waiting', 'delayed', 'dispatched', 'running');
    continue when v_counted = v_found;
    update submissions s set open = v_found where s.id = v_id;
    submission_id := v_id; counted := v_counted; actual := v_found;
    return next;
  end loop;
end $$;
