-- The store. Every table has an owner. State changes of tasks go through the functions in functions.sql only.

create table identities (
  id uuid primary key,
  name text not null unique,
  secret_hash text not null,
  is_admin boolean not null default false,
  created_at timestamptz not null default now(),
  revoked_at timestamptz
);

-- Tokens and secrets are kept as hashes.
create table access_tokens (
  hash bytea primary key,
  identity_id uuid not null references identities on delete cascade,
  kind text not null default 'access',
  scope text not null,
  resource_server text not null,
  expires_at timestamptz not null,
  created_at timestamptz not null default now()
);
create index access_tokens_expiry on access_tokens (expires_at);

create table groups (
  id uuid primary key,
  name text not null unique,
  owner_id uuid not null references identities,
  created_at timestamptz not null default now()
);

create table group_members (
  group_id uuid not null references groups on delete cascade,
  identity_id uuid not null references identities on delete cascade,
  primary key (group_id, identity_id)
);

create table functions (
  id uuid primary key,
  owner_id uuid not null references identities,
  name text not null,
  -- The packed buffer of the code, ready to stand before a payload.
  code bytea not null,
  is_serialized boolean not null,
  description text,
  is_public boolean not null default false,
  group_id uuid,
  metadata jsonb not null default '{}',
  policy jsonb not null default '{}',
  created_at timestamptz not null default now(),
  deleted_at timestamptz
);
create index functions_owner on functions (owner_id, name) where deleted_at is null;

create table endpoints (
  id uuid primary key,
  owner_id uuid not null references identities,
  name text not null,
  display_name text,
  -- agent (ours), globus (core endpoint 4.x), funcx-1.0
  kind text not null,
  is_public boolean not null default false,
  group_id uuid,
  is_multi_user boolean not null default false,
  allowed_functions uuid[],
  metadata jsonb not null default '{}',
  last_report jsonb not null default '{}',
  locked_until timestamptz,
  created_at timestamptz not null default now(),
  registered_at timestamptz not null default now(),
  deleted_at timestamptz
);
create index endpoints_owner on endpoints (owner_id) where deleted_at is null;

-- One row a queue of tasks: the endpoint itself, or a user endpoint of a stock agent. Also the window of what is on the broker.
create table task_queues (
  id uuid primary key,
  endpoint_id uuid not null references endpoints,
  -- The submitter of a user endpoint; null where the queue serves all.
  owner_id uuid,
  config_hash text not null default '',
  config jsonb not null default '{}',
  is_online boolean not null default false,
  changed_at timestamptz not null default now(),
  incarnation text,
  heartbeat_period_s double precision not null default 5,
  last_heartbeat_at timestamptz,
  workers integer not null default 1,
  in_flight integer not null default 0 check (in_flight >= 0),
  window_size integer not null,
  -- The window never falls below window_floor and holds window_span_s of the measured rate.
  window_floor integer not null,
  window_span_s double precision not null,
  rate double precision not null default 0,
  span_started_at timestamptz not null default now(),
  span_answers integer not null default 0,
  -- A pump that is alive writes the time here; null when none runs.
  pump_alive_at timestamptz,
  unique nulls not distinct (endpoint_id, owner_id, config_hash)
);

-- Names of broker users, so that they can be deleted; passwords are kept nowhere.
create table broker_users (
  name text primary key,
  purpose text not null,
  owner_id uuid not null,
  task_queue_id uuid,
  created_at timestamptz not null default now(),
  expires_at timestamptz
);
create index broker_users_queue on broker_users (task_queue_id);

create table task_groups (
  id uuid primary key,
  owner_id uuid not null references identities,
  -- The sequence number of the latest answer; the cursor of every way of delivery.
  last_seq bigint not null default 0,
  -- Whether answers are also published to a queue of the group.
  has_queue boolean not null default false,
  created_at timestamptz not null default now()
);

create table submissions (
  id uuid primary key,
  owner_id uuid not null references identities,
  endpoint_id uuid not null references endpoints,
  task_queue_id uuid not null references task_queues,
  task_group_id uuid not null references task_groups,
  function_name text not null,
  total integer not null,
  open integer not null check (open >= 0),
  state text not null default 'waiting',
  policy jsonb not null default '{}',
  resource_specification jsonb,
  result_serializers text[],
  traceparent text,
  deadline_at timestamptz not null,
  nudged_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz
);
create index submissions_group on submissions (task_group_id);
create index submissions_unstarted on submissions (created_at) where started_at is null;
create index submissions_open_endpoint on submissions (endpoint_id) where open > 0;

-- What was answered to a request, so that the same request is answered the same.
create table accepted_requests (
  owner_id uuid not null,
  key text not null,
  body_hash bytea not null,
  response jsonb not null,
  created_at timestamptz not null default now(),
  primary key (owner_id, key)
);

create table tasks (
  id uuid primary key,
  owner_id uuid not null,
  task_queue_id uuid not null,
  task_group_id uuid not null,
  function_id uuid not null,
  state text not null default 'waiting',
  priority smallint not null default 0,
  payload_size integer not null,
  attempt integer not null default 0,
  -- Attempts that were lost with an agent; they do not spend the user's own.
  losses smallint not null default 0,
  claim_id text,
  dispatched_at timestamptz,
  -- When a delayed task is due.
  due_at timestamptz,
  answered_at timestamptz,
  delivered_at timestamptz
) partition by range (id);
create index tasks_waiting on tasks (task_queue_id, owner_id, priority desc, id) where state = 'waiting';
create index tasks_in_hand on tasks (task_queue_id, id) where state in ('dispatched', 'running');

create table payloads (
  id uuid primary key,
  body bytea not null
) partition by range (id);

create table results (
  id uuid primary key,
  task_group_id uuid not null,
  seq bigint not null,
  attempt integer not null,
  -- The result message as it goes to the submitter, byte for byte.
  frame bytea not null,
  answered_at timestamptz not null default now()
) partition by range (id);
create index results_sequence on results (task_group_id, seq);

-- Large results that an agent left over HTTP before its result message.
create table uploads (
  id uuid not null,
  attempt integer not null,
  body bytea not null,
  created_at timestamptz not null default now(),
  primary key (id, attempt)
);

create table dead_letters (
  id bigint generated always as identity primary key,
  queue text not null,
  reason text not null,
  body bytea not null,
  headers jsonb not null default '{}',
  created_at timestamptz not null default now()
);
