-- Since when the agent of a queue is the one that it is now. An attempt that was dispatched later cannot have been lost with an
-- earlier agent.
alter table endpoint_queues add column incarnation_since timestamptz not null default now();
