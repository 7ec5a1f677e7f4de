-- What user endpoints of stock core endpoints need beside a task queue.

alter table task_queues
  -- What the submitter's client said of its Python, for the endpoint's template.
  add column runtime jsonb not null default '{}',
  -- When the core endpoint was last told to start this user endpoint.
  add column command_sent_at timestamptz,
  -- Since when a start is refused because an earlier process of the same name seems to run.
  add column start_refused_at timestamptz;

-- Accepted submits whose answer is not known to have been written out: what a repeat may be matched with.
create table unanswered_requests (
  id uuid primary key,
  owner_id uuid not null,
  endpoint_id uuid not null,
  body_hash bytea not null,
  -- Where the process that accepted it listens; only one can. And which one it was.
  listener text not null,
  process uuid not null,
  response jsonb not null,
  created_at timestamptz not null default now(),
  -- When its connection was seen to be gone, or its process to be dead.
  lost_at timestamptz
);
create index unanswered_requests_lost on unanswered_requests (owner_id, body_hash) where lost_at is not null;
create index unanswered_requests_listener on unanswered_requests (listener) where lost_at is null;
create index unanswered_requests_age on unanswered_requests (created_at);
