-- What the agent of a queue understands beyond single messages, such as batches. It holds only while `incarnation` is
-- `capable_incarnation`: an `api` of an earlier version registers another incarnation without changing these columns.
alter table endpoint_queues
  add column capabilities text[] not null default '{}',
  add column capable_incarnation text;
