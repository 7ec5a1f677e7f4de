-- The latest claim of each pump that is not known to be published, by pump: two pumps of a queue may overlap for a moment, and
-- either may die. Earlier versions keep only one claim, in `pump_claim`.
alter table endpoint_queues add column pump_claims jsonb not null default '{}';
update endpoint_queues queue
   set pump_claims = jsonb_build_object(substring(pump_claim from '^(.+)/[^/]+$'), jsonb_build_object('claim', pump_claim, 'at', now()))
 where queue.pump_claim like 'pump/%/%';

-- User endpoints without a process that may have queues on the broker: few, however many configurations were ever used.
create index endpoint_queues_gone on endpoint_queues (changed_at)
  where owner_id is not null and not is_online and collected_at is null;
