-- The sweep finds submissions that lost their workflow: it looks for those without an end that should have one.
create index submissions_all_answered on submissions (id) where finished_at is null and open = 0;
create index submissions_by_deadline on submissions (deadline_at) where finished_at is null and open > 0;

-- When the endpoint's workflow last took the presence of its queue: a change that it did not take is signalled again.
alter table endpoint_queues add column signalled_at timestamptz default now();
update endpoint_queues set signalled_at = changed_at;
create index endpoint_queues_unsignalled on endpoint_queues (changed_at) where changed_at is distinct from signalled_at;
