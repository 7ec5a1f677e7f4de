-- Inserts a submission with its group, tasks, bodies and records. `accepted` is false when the group belongs to another owner.
--
-- With `p_claim`, the tasks are claimed in the same transaction, as by claim_tasks, if the queue is online, has room for all of
-- them, and no tasks wait there. The process that then finds the claim publishes its tasks, as after a crash between a claim and
-- its messages. Locks in the same order as all statements: the queue before the group. Does not wait for the lock of the queue:
-- on a busy queue the tasks wait, and one claim takes the tasks of many requests.
-- Processes of earlier versions do not send `p_has_batch_queue`.
drop function if exists accept_submission(
  uuid, uuid, uuid, uuid, uuid, text, jsonb, jsonb, text[], text, timestamptz, boolean, uuid[], uuid[], bytea[], integer[],
  uuid, bytea, text, uuid, jsonb, uuid[], integer[], uuid[], text, text);
create or replace function accept_submission(
  p_id uuid, p_owner uuid, p_endpoint uuid, p_queue uuid, p_group uuid, p_function_name text, p_policy jsonb,
  p_specification jsonb, p_serializers text[], p_traceparent text, p_deadline timestamptz, p_has_queue boolean,
  p_tasks uuid[], p_functions uuid[], p_bodies bytea[], p_sizes integer[],
  p_request uuid, p_body_hash bytea, p_listener text, p_process uuid, p_response jsonb,
  p_referring uuid[], p_positions integer[], p_sources uuid[], p_workflow text, p_claim text, p_has_batch_queue boolean default false)
returns table (accepted boolean, claimed boolean, capabilities text[], rate double precision, endpoint_owner_id uuid)
language plpgsql set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_tasks integer := cardinality(p_tasks);
  v_queue endpoint_queues;
  v_group uuid;
  v_claimed boolean := false;
begin
  if p_claim is not null then
    select queue.is_online and queue.in_flight + v_tasks <= queue.window_size
           and not exists (select from tasks task where task.endpoint_queue_id = p_queue and task.state = 'waiting')
      into v_claimed from endpoint_queues queue where queue.id = p_queue;
    if v_claimed then
      select * into v_queue from endpoint_queues queue where queue.id = p_queue for no key update skip locked;
      v_claimed := v_queue.is_online and v_queue.in_flight + v_tasks <= v_queue.window_size;
    end if;
    v_claimed := coalesce(v_claimed, false);
  end if;

  insert into task_groups (id, owner_id, has_queue, has_batch_queue) values (p_group, p_owner, p_has_queue, p_has_batch_queue)
    on conflict (id) do update set
        has_queue = task_groups.has_queue or excluded.has_queue,
        has_batch_queue = task_groups.has_batch_queue or excluded.has_batch_queue
      where task_groups.owner_id = excluded.owner_id
    returning id into v_group;
  if v_group is null then
    return query select false, false, null::text[], null::double precision, null::uuid;
    return;
  end if;
  insert into submissions (id, owner_id, endpoint_id, endpoint_queue_id, task_group_id, function_name, total, open, policy,
                           resource_specification, result_serializers, traceparent, deadline_at, workflow_id, state,
                           stored_bytes)
    values (p_id, p_owner, p_endpoint, p_queue, p_group, p_function_name, v_tasks, v_tasks, p_policy, p_specification,
            p_serializers, p_traceparent, p_deadline, p_workflow, case when v_claimed then 'running' else 'waiting' end,
            (select coalesce(sum(size), 0) from unnest(p_sizes) size));
  insert into payloads (id, body) select given.id, given.body from unnest(p_tasks, p_bodies) as given (id, body);
  insert into tasks (id, owner_id, endpoint_queue_id, task_group_id, function_id, payload_size, state, attempt, claim_id,
                     dispatched_at)
    select given.id, p_owner, p_queue, p_group, given.function_id, given.size,
           case when v_claimed then 'dispatched' else 'waiting' end, case when v_claimed then 1 else 0 end,
           case when v_claimed then p_claim end, case when v_claimed then now() end
      from unnest(p_tasks, p_functions, p_sizes) as given (id, function_id, size);
  if p_request is not null then
    insert into unanswered_requests (id, owner_id, endpoint_id, body_hash, listener, process, response)
      values (p_request, p_owner, p_endpoint, p_body_hash, p_listener, p_process, p_response);
  end if;
  if cardinality(p_referring) > 0 then
    insert into payload_references (id, position, source)
      select given.id, given.position, given.source
        from unnest(p_referring, p_positions, p_sources) as given (id, position, source);
  end if;
  if v_claimed then
    update endpoint_queues queue set in_flight = queue.in_flight + v_tasks, last_owner = p_owner where queue.id = p_queue;
  end if;
  return query
    select true, v_claimed,
           case when v_queue.capable_incarnation = v_queue.incarnation then v_queue.capabilities else '{}' end, v_queue.rate,
           case when v_claimed then (select endpoint.owner_id from endpoints endpoint where endpoint.id = p_endpoint) end;
end $$;
