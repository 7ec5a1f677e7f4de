-- What an owner uses of a quota. Functions with equal code count once: stock clients register them in each process.
create or replace function quota_used(p_owner uuid, p_quota text) returns bigint language plpgsql stable as $$
begin
  case p_quota
    when 'open_tasks' then
      return (select coalesce(sum(open), 0) from submissions where owner_id = p_owner and is_open);
    when 'open_groups' then
      return (select count(distinct task_group_id) from submissions where owner_id = p_owner and is_open);
    when 'functions' then
      return (select count(distinct code_key) from functions where owner_id = p_owner and deleted_at is null);
    when 'endpoints' then
      return (select count(*) from endpoints where owner_id = p_owner and deleted_at is null);
    when 'user_endpoints' then
      return (select count(*) from endpoint_queues q join endpoints e on e.id = q.endpoint_id
               where q.owner_id = p_owner and e.deleted_at is null);
    when 'stored_bytes' then
      return (select coalesce(sum(stored_bytes), 0) from submissions where owner_id = p_owner)
             + (select coalesce(sum(octet_length(code)), 0) from functions where owner_id = p_owner and deleted_at is null);
    when 'api_tokens' then
      return (select count(*) from access_tokens where identity_id = p_owner and kind = 'api' and expires_at > now());
    when 'schedules' then
      return (select count(*) from schedules where owner_id = p_owner and deleted_at is null);
    when 'active_runs' then
      return (select count(*) from flow_runs where owner_id = p_owner and status = 'ACTIVE');
  end case;
end $$;

-- Leases room of a quota to a process. `p_reserved` is what the process has already reserved and `p_more` what it needs now. If
-- both fit into the room that others leave, it gets both, and a share of the room beyond what it has reserved if that is more than
-- it needs and not small: in a small room, others need what a process does not use. Otherwise it keeps what it has reserved. One
-- owner's leases of one quota are given one after another, and each sees the earlier ones.
create or replace function lease_quota(
  p_owner uuid, p_quota text, p_process uuid, p_limit bigint, p_reserved bigint, p_more bigint, p_shares integer,
  p_lifetime double precision)
returns table (used bigint, others bigint, leased bigint) language plpgsql as $$
declare
  c_small_share constant bigint := 100;
  v_used bigint;
  v_others bigint;
  v_room bigint;
  v_share bigint;
  v_leased bigint := p_reserved;
begin
  perform pg_advisory_xact_lock(hashtext(p_quota), hashtext(p_owner::text));
  v_used := quota_used(p_owner, p_quota);
  select coalesce(sum(lease.room), 0) into v_others from quota_leases lease
    where lease.owner_id = p_owner and lease.quota = p_quota and lease.process <> p_process and lease.expires_at > now();
  v_room := p_limit - v_used - v_others;
  if p_reserved + p_more <= v_room then
    v_share := v_room / p_shares;
    if v_share < c_small_share then
      v_share := 0;
    end if;
    v_leased := least(v_room, p_reserved + greatest(p_more, v_share));
  end if;
  if v_leased = 0 then
    delete from quota_leases lease where lease.owner_id = p_owner and lease.quota = p_quota and lease.process = p_process;
  else
    insert into quota_leases (owner_id, quota, process, room, expires_at)
      values (p_owner, p_quota, p_process, v_leased, now() + p_lifetime * interval '1 second')
      on conflict (owner_id, quota, process) do update set room = excluded.room, expires_at = excluded.expires_at;
  end if;
  return query select v_used, v_others, v_leased;
end $$;
