-- Bodies of tasks that refer to results of other tasks.

-- The body of a task as its agent receives it. If the task has references, the stored text is the start of a JSON list whose last
-- member is the list of the referenced buffers. The buffers are inserted here, so that no process of the service has to read and
-- assemble them. Null when a referenced result no longer exists.
create or replace function task_payload(p_id uuid) returns bytea language plpgsql stable as $$
declare
  v_body bytea;
  v_buffers text;
  v_buffer text;
  v_wanted integer;
  v_found integer;
begin
  select payload.body into v_body from payloads payload where payload.id = p_id;
  select count(*), count(result.id),
         string_agg((convert_from(substring(result.frame from 2), 'UTF8')::json #> '{data,data}')::text, ','
                    order by reference.position)
    into v_wanted, v_found, v_buffers
    from payload_references reference left join results result on result.id = reference.source where reference.id = p_id;
  if v_wanted = 0 then return v_body; end if;
  if v_found < v_wanted then return null; end if;
  v_buffer := E'11\n' || convert_from(v_body, 'UTF8') || v_buffers || ']]';
  return convert_to(char_length(v_buffer) || E'\n' || v_buffer || E'5\n11\n{}', 'UTF8');
end $$;
