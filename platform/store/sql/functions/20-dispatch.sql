-- Statements that put waiting tasks into flight. All statements that change task states lock in the same order: endpoint
-- queues, tasks, task groups, submissions; rows of one table by id. They lock "for no key update" because an accept takes
-- key locks on queues and groups through its foreign keys.
-- Each list of ids comes with its lowest and highest id: the planner prunes partitions by a range, but not by a list.

-- A pump names its claims `<pump>/<number>`. Null for the claim of a workflow, which repeats its claim ID itself.
create or replace function pump_of(p_claim text) returns text language sql immutable as $$
  select substring(p_claim from '^(pump/.+)/[^/]+$')
$$;

-- The entry in `pump_claims` for a claim that is not known to be published. A pump publishes one claim after another, so its next
-- claim replaces the entry. Pumps of the version before `pump_claims` read only `pump_claim`, so for one release it has the latest
-- claim: such a pump may follow one of this version. Remove `pump_claim` from these functions in the release after that.
create or replace function unfinished_claim(p_claim text) returns jsonb language sql stable as $$
  select jsonb_build_object(pump_of(p_claim), jsonb_build_object('claim', p_claim, 'at', now()))
$$;

-- Claims waiting tasks of a queue until its window is full. Owners take turns; within an owner, priority and age decide.
-- `p_bytes` limits the size of one claim: the code of the function and the body of each task. Repeating a claim ID returns the
-- tasks of that claim that are still dispatched. With `p_from` and `p_to`, claims only tasks with IDs after `p_from` up to `p_to`,
-- and nothing while others, or more than `p_limit`, wait.
drop function if exists claim_tasks(uuid, text, integer, bigint);
create or replace function claim_tasks(
  p_queue uuid, p_claim text, p_limit integer, p_bytes bigint, p_from uuid default null, p_to uuid default null)
returns table (id uuid, attempt integer) language plpgsql as $$
declare
  v_queue endpoint_queues;
  v_pump text := pump_of(p_claim);
  v_may_repeat boolean;
  v_free integer;
  v_are_own boolean;
  v_picked uuid[];
  v_last_owner uuid;
  v_from uuid;
  v_to uuid;
begin
  -- First without a lock: a lock is a write, and a claim that finds nothing to do must not cost a commit with an fsync.
  select * into v_queue from endpoint_queues queue where queue.id = p_queue;
  if not found then return; end if;
  -- A pump repeats only the claim ID that the queue has stored.
  v_may_repeat := v_queue.in_flight > 0
    and (v_pump is null or coalesce(v_queue.pump_claims -> v_pump ->> 'claim' = p_claim, false));
  if not v_may_repeat and (
    v_queue.in_flight >= v_queue.window_size or not v_queue.is_online
    or not exists (select from tasks task where task.endpoint_queue_id = p_queue and task.state = 'waiting')
  ) then return; end if;

  select * into v_queue from endpoint_queues queue where queue.id = p_queue for no key update;
  if v_may_repeat then
    return query select task.id, task.attempt from tasks task
      where task.endpoint_queue_id = p_queue and task.state = 'dispatched' and task.claim_id = p_claim order by task.id;
    if found then return; end if;
  end if;
  v_free := least(v_queue.window_size - v_queue.in_flight, p_limit);
  if v_free <= 0 or not v_queue.is_online then return; end if;
  if p_from is not null then
    -- Bounded, because the queue is locked: where more tasks wait, a pump is needed anyway.
    select count(*) filter (where first.id > p_from and first.id <= p_to) = count(*) and count(*) <= p_limit into v_are_own
      from (select task.id from tasks task
             where task.endpoint_queue_id = p_queue and task.state = 'waiting' limit p_limit + 1) first;
    if not v_are_own then return; end if;
  end if;

  -- Distinct owners by skipping along the index: the cost grows with owners, not with waiting tasks.
  with recursive owners as (
    (select task.owner_id from tasks task
      where task.endpoint_queue_id = p_queue and task.state = 'waiting' order by task.owner_id limit 1)
    union all
    select (select task.owner_id from tasks task
             where task.endpoint_queue_id = p_queue and task.state = 'waiting' and task.owner_id > owner.owner_id
             order by task.owner_id limit 1)
      from owners owner where owner.owner_id is not null
  ), turns as (
    -- First the owners after the owner that was served last, then the owners before it.
    select owner.owner_id, count(*) over () as owners,
           row_number() over (order by coalesce(owner.owner_id <= v_queue.last_owner, false), owner.owner_id) as place
      from owners owner where owner.owner_id is not null
  ), candidates as (
    select task.id, task.payload_size + octet_length(function.code) as bytes, turn.owner_id, turn.place,
           row_number() over (partition by turn.owner_id order by task.priority desc, task.id) as round
      from turns turn
      cross join lateral (
        select t.id, t.payload_size, t.priority, t.function_id from tasks t
         where t.endpoint_queue_id = p_queue and t.owner_id = turn.owner_id and t.state = 'waiting'
         order by t.priority desc, t.id
         limit case when turn.owners > v_free then 1 else v_free end
      ) task
      join functions function on function.id = task.function_id
     where turn.place <= v_free
  ), ordered as (
    select candidate.id, candidate.owner_id, row_number() over (order by candidate.round, candidate.place) as position,
           sum(candidate.bytes::bigint) over (order by candidate.round, candidate.place) - candidate.bytes as bytes_before
      from candidates candidate order by candidate.round, candidate.place limit v_free
  )
  select array_agg(picked.id), (array_agg(picked.owner_id order by picked.position desc))[1] into v_picked, v_last_owner
    from ordered picked
   where picked.bytes_before < p_bytes and (p_from is null or picked.id > p_from and picked.id <= p_to);
  if v_picked is null then return; end if;
  v_from := (select picked from unnest(v_picked) picked order by picked limit 1);
  v_to := (select picked from unnest(v_picked) picked order by picked desc limit 1);

  return query
    with dispatched as (
      update tasks task set
          state = 'dispatched', attempt = task.attempt + 1, claim_id = p_claim, dispatched_at = now(),
          due_at = null, running_at = null, missing_since = null
       where task.id = any (v_picked) and task.state = 'waiting' and task.id >= v_from and task.id <= v_to
      returning task.id, task.attempt
    ), counted as (
      update endpoint_queues queue set
          in_flight = queue.in_flight + (select count(*) from dispatched), last_owner = v_last_owner,
          pump_claims = case when v_pump is null then queue.pump_claims else queue.pump_claims || unfinished_claim(p_claim) end,
          pump_claim = case when v_pump is null then queue.pump_claim else p_claim end
       where queue.id = p_queue
    ), shown as (
      update submissions submission set state = 'running'
       where submission.id in (select submission_of(task.id) from dispatched task) and submission.state = 'waiting'
    )
    select task.id, task.attempt from dispatched task order by task.id;
end $$;

-- Claims tasks and returns everything that their messages need, except the code of the functions. `payload` is null if one of
-- our agents fetches the large body. `missing_source` is a referenced result that no longer exists.
drop function if exists claim_and_load(uuid, text, integer, bigint, integer);
create or replace function claim_and_load(
  p_queue uuid, p_claim text, p_limit integer, p_bytes bigint, p_inline_bytes integer,
  p_from uuid default null, p_to uuid default null)
returns table (
  id uuid, attempt integer, function_id uuid, payload bytea, resource_specification jsonb, result_serializers text[],
  walltime_ms double precision, traceparent text, missing_source uuid, capabilities text[], rate double precision)
language plpgsql as $$
declare
  v_ids uuid[];
  v_attempts integer[];
  v_from uuid;
  v_to uuid;
begin
  select array_agg(claimed.id order by claimed.id), array_agg(claimed.attempt order by claimed.id) into v_ids, v_attempts
    from claim_tasks(p_queue, p_claim, p_limit, p_bytes, p_from, p_to) claimed;
  if v_ids is null then return; end if;
  v_from := v_ids[1];
  v_to := v_ids[cardinality(v_ids)];
  return query
    select claimed.id, claimed.attempt, task.function_id,
           case when endpoint.kind = 'agent' and task.payload_size > p_inline_bytes then null
                when exists (select from payload_references reference where reference.id = claimed.id)
                then task_payload(claimed.id)
                else (select stored.body from payloads stored
                       where stored.id = claimed.id and stored.id >= v_from and stored.id <= v_to) end,
           submission.resource_specification, submission.result_serializers,
           (submission.policy ->> 'walltime_s')::double precision * 1000, submission.traceparent,
           (select reference.source from payload_references reference
             where reference.id = claimed.id and not exists (select from results result where result.id = reference.source)
             order by reference.position limit 1),
           -- Capabilities are valid only for the incarnation that announced them.
           case when queue.capable_incarnation = queue.incarnation then queue.capabilities else '{}' end,
           queue.rate
      from unnest(v_ids, v_attempts) as claimed (id, attempt)
      join tasks task on task.id = claimed.id and task.id >= v_from and task.id <= v_to
      join submissions submission on submission.id = submission_of(claimed.id)
      join endpoints endpoint on endpoint.id = submission.endpoint_id
      join endpoint_queues queue on queue.id = p_queue
     order by claimed.id;
end $$;

-- Gives the oldest unfinished claim of another pump the claim ID `p_claim` of the caller if it was not renewed for `p_silent_ms`:
-- its pump died or stands still. The caller must then repeat this claim. Returns 'taken', 'pending' if another pump may still be
-- publishing a claim, or 'none'.
create or replace function take_over_claim(p_queue uuid, p_claim text, p_silent_ms double precision) returns text
language plpgsql as $$
declare
  v_pump text;
  v_entry jsonb;
begin
  select entry.key, entry.value into v_pump, v_entry
    from endpoint_queues queue, jsonb_each(queue.pump_claims - pump_of(p_claim)) entry
   where queue.id = p_queue order by (entry.value ->> 'at')::timestamptz limit 1;
  if not found then return 'none'; end if;
  if (v_entry ->> 'at')::timestamptz > now() - p_silent_ms * interval '1 millisecond' then return 'pending'; end if;
  update endpoint_queues queue
     set pump_claims = (queue.pump_claims - v_pump) || unfinished_claim(p_claim), pump_claim = p_claim
   where queue.id = p_queue and queue.pump_claims -> v_pump = v_entry;
  if not found then return 'pending'; end if;
  with unpublished as (
    select task.id from tasks task
     where task.endpoint_queue_id = p_queue and task.state = 'dispatched' and task.claim_id = v_entry ->> 'claim'
     order by task.id for no key update
  ) update tasks task set claim_id = p_claim from unpublished where task.id = unpublished.id;
  return 'taken';
end $$;

-- Queues with waiting tasks, by skipping along the index: the cost grows with these queues, not with the number of all queues.
create or replace function queues_with_waiting_tasks() returns table (id uuid) language sql stable as $$
  with recursive waiting as (
    (select task.endpoint_queue_id as id from tasks task where task.state = 'waiting' order by 1 limit 1)
    union all
    select (select task.endpoint_queue_id from tasks task
             where task.state = 'waiting' and task.endpoint_queue_id > waiting.id order by 1 limit 1)
      from waiting where waiting.id is not null
  ) select waiting.id from waiting where waiting.id is not null
$$;

-- True when tasks wait at an online queue without a live pump; the caller must then signal the endpoint's workflow.
-- Returns true at most once in 15 s, so that one caller signals and the others rely on that signal. `pump_alive_at` only saves
-- signals: that one pump runs is up to the workflow.
create or replace function ask_for_pump(p_queue uuid) returns boolean language sql as $$
  with asked as (
    update endpoint_queues queue set pump_alive_at = now()
     where queue.id = p_queue and queue.is_online
       and (queue.pump_alive_at is null or queue.pump_alive_at < now() - interval '15 seconds')
       and exists (select from tasks task where task.endpoint_queue_id = p_queue and task.state = 'waiting')
    returning 1
  ) select exists (select from asked)
$$;

-- The unfinished claims of a queue without those of a pump that is between two claims. Pumps of earlier versions pass no ID, and
-- forget all claims when they end.
create or replace function claims_beside(p_claims jsonb, p_pump text) returns jsonb language sql immutable as $$
  select case when p_pump is null then '{}' else p_claims - p_pump end
$$;

-- Renews the lease of the pump, which has published all that it claimed. With nothing left to dispatch, and no claim of another
-- pump to take over, records that the pump ends and returns false.
drop function if exists keep_pumping(uuid);
create or replace function keep_pumping(p_queue uuid, p_pump text default null) returns boolean language plpgsql as $$
declare
  v_queue endpoint_queues;
  v_has_work boolean;
begin
  -- First without a lock, as in claim_tasks: a pump calls this far more often than its lease must be renewed.
  select * into v_queue from endpoint_queues queue where queue.id = p_queue;
  v_has_work := claims_beside(v_queue.pump_claims, p_pump) <> '{}'
    or v_queue.is_online and exists (select from tasks task where task.endpoint_queue_id = p_queue and task.state = 'waiting');
  if v_has_work and v_queue.pump_alive_at > now() - interval '1500 milliseconds' then return true; end if;

  select * into v_queue from endpoint_queues queue where queue.id = p_queue for no key update;
  v_has_work := claims_beside(v_queue.pump_claims, p_pump) <> '{}'
    or v_queue.is_online and exists (select from tasks task where task.endpoint_queue_id = p_queue and task.state = 'waiting');
  update endpoint_queues queue set
      pump_alive_at = case when v_has_work then now() end,
      pump_claims = case when v_has_work then queue.pump_claims else '{}' end,
      pump_claim = case when v_has_work then queue.pump_claim end
   where queue.id = p_queue;
  return coalesce(v_has_work, false);
end $$;

-- If the window is full, nothing was dispatched for `p_quiet_ms`, and there is no claim of another pump to take over, records that
-- the pump ends although tasks wait, and returns true. The presence sweep requests another pump when a place is free.
drop function if exists park_pump(uuid, double precision);
create or replace function park_pump(p_queue uuid, p_quiet_ms double precision, p_pump text default null)
returns boolean language sql as $$
  with parked as (
    update endpoint_queues queue set pump_alive_at = null, pump_claims = '{}', pump_claim = null
     where queue.id = p_queue and queue.in_flight >= queue.window_size and claims_beside(queue.pump_claims, p_pump) = '{}'
       and not exists (
         select from tasks task
          where task.endpoint_queue_id = p_queue and is_in_flight(task.state)
            and task.dispatched_at > now() - p_quiet_ms * interval '1 millisecond')
    returning 1
  ) select exists (select from parked)
$$;

-- Moves delayed tasks of a submission that are due back to waiting. Returns their number. The caller passes its own time: if the
-- clock of the workflow is ahead of the database's clock, the workflow would otherwise call this repeatedly until they agree.
drop function if exists release_due(uuid, uuid);
create or replace function release_due(p_from uuid, p_to uuid, p_now timestamptz default now())
returns integer language sql as $$
  with due as (
    select task.id from tasks task
     where task.id > p_from and task.id <= p_to and task.state = 'delayed'
       and task.due_at <= greatest(now(), p_now) + interval '5 milliseconds'
     order by task.id for no key update
  ), released as (
    update tasks task set state = 'waiting', due_at = null from due
     where task.id = due.id and task.id > p_from and task.id <= p_to returning 1
  ) select count(*)::integer from released
$$;

-- Moves lost attempts back to waiting and returns them. Attempts that were lost too often are returned as final instead; the
-- caller ends their tasks. Skips attempts that were answered, or followed by another attempt, since the caller read them.
-- Our agents acknowledge an attempt early that waits behind long attempts, and lose it at each restart. Such an attempt never
-- ran, so it cannot have crashed its agent, and it does not count as a loss. An attempt that waited for less than a minute may
-- have crashed the agent just when it started, so it counts.
create or replace function requeue_lost(p_ids uuid[], p_attempts integer[], p_max_losses integer)
returns table (id uuid, attempt integer, is_final boolean) language plpgsql as $$
begin
  perform from endpoint_queues queue
    where queue.id in (select task.endpoint_queue_id from tasks task where task.id = any (p_ids))
    order by queue.id for no key update;
  return query
    with lost as (
      select task.id, task.attempt, task.losses,
             task.state = 'dispatched' and task.dispatched_at < now() - interval '1 minute'
               and (select endpoint.kind = 'agent' from endpoint_queues queue join endpoints endpoint on endpoint.id = queue.endpoint_id
                     where queue.id = task.endpoint_queue_id) as never_ran
        from tasks task join unnest(p_ids, p_attempts) as reported (id, attempt)
          on reported.id = task.id and reported.attempt = task.attempt
       where task.id = any (p_ids) and is_in_flight(task.state) order by task.id for no key update of task
    ), requeued as (
      update tasks task set
          state = 'waiting', losses = task.losses + case when lost.never_ran then 0 else 1 end, claim_id = null,
          running_at = null, missing_since = null
        from lost where lost.id = task.id and (lost.losses < p_max_losses or lost.never_ran)
      returning task.id, task.endpoint_queue_id
    ), counted as (
      update endpoint_queues queue set in_flight = queue.in_flight - freed.places
        from (select task.endpoint_queue_id, count(*)::integer as places from requeued task group by 1) freed
       where freed.endpoint_queue_id = queue.id
    )
    select lost.id, lost.attempt, not exists (select from requeued task where task.id = lost.id) from lost;
end $$;
