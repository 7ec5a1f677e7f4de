-- When the queue and the broker users of an unused user endpoint were removed. Null while they may exist.
alter table endpoint_queues add column collected_at timestamptz;
