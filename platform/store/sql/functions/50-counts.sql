-- Stored counts change only in the transactions that change task states, so a difference between a count and its tasks is a bug.
-- These functions find differences in one snapshot, repair them under a lock, and return them.

create or replace function reconcile_in_flight() returns table (queue_id uuid, counted integer, actual integer)
language plpgsql as $$
declare
  v_id uuid;
  v_counted integer;
  v_actual integer;
begin
  for v_id in
    select queue.id from endpoint_queues queue
      left join (select task.endpoint_queue_id, count(*)::integer as tasks from tasks task
                  where is_in_flight(task.state) group by 1) in_flight on in_flight.endpoint_queue_id = queue.id
     where queue.in_flight <> coalesce(in_flight.tasks, 0)
     order by queue.id -- the order in which all statements lock queues
  loop
    select queue.in_flight into v_counted from endpoint_queues queue where queue.id = v_id for no key update;
    select count(*)::integer into v_actual from tasks task
     where task.endpoint_queue_id = v_id and is_in_flight(task.state);
    continue when v_counted = v_actual;
    update endpoint_queues queue set in_flight = v_actual where queue.id = v_id;
    queue_id := v_id; counted := v_counted; actual := v_actual;
    return next;
  end loop;
end $$;

-- Submissions younger than `p_older` may be in the middle of their accept and are skipped.
create or replace function reconcile_open(p_older interval) returns table (submission_id uuid, counted integer, actual integer)
language plpgsql as $$
declare
  v_id uuid;
  v_counted integer;
  v_actual integer;
begin
  for v_id in
    select submission.id from submissions submission
     where submission.is_open and submission.created_at < now() - p_older
       and submission.open <> (select count(*) from tasks task
                                where task.id > submission.id and task.id <= last_task_of(submission.id)
                                  and is_open(task.state))
  loop
    select submission.open into v_counted from submissions submission where submission.id = v_id for no key update;
    select count(*)::integer into v_actual from tasks task
     where task.id > v_id and task.id <= last_task_of(v_id) and is_open(task.state);
    continue when v_counted = v_actual;
    update submissions submission set open = v_actual where submission.id = v_id;
    submission_id := v_id; counted := v_counted; actual := v_actual;
    return next;
  end loop;
end $$;
