-- The row of a user endpoint is removed when no submission names it. Apart from 0029: while that file holds the endpoint queues,
-- a submit that has locked the submissions waits for it.
create index if not exists submissions_endpoint_queue on submissions (endpoint_queue_id);
