-- Flows: pipelines written as data. Lists of principals hold URNs as the clients send them.
create table flows (
  id uuid primary key,
  owner_id uuid not null references identities on delete cascade,
  -- Of the current definition in flow_versions.
  version integer not null default 1,
  title text not null,
  subtitle text not null default '',
  description text not null default '',
  keywords text[] not null default '{}',
  viewers text[] not null default '{}',
  starters text[] not null default '{}',
  administrators text[] not null default '{}',
  run_managers text[] not null default '{}',
  run_monitors text[] not null default '{}',
  subscription_id text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz
);
create index flows_updated on flows (updated_at, id) where deleted_at is null;
create index flows_owner on flows (owner_id) where deleted_at is null;

-- A run keeps the version that it started with. `json` and not `jsonb`: the order of states is the author's.
create table flow_versions (
  flow_id uuid not null references flows on delete cascade,
  version integer not null,
  definition json not null,
  input_schema json not null,
  created_at timestamptz not null default now(),
  primary key (flow_id, version)
);

create table flow_runs (
  id uuid primary key,
  flow_id uuid not null references flows,
  flow_version integer not null,
  owner_id uuid not null references identities on delete cascade,
  label text not null default '',
  tags text[] not null default '{}',
  managers text[] not null default '{}',
  monitors text[] not null default '{}',
  status text not null default 'ACTIVE',
  -- As the clients read it: code, description, and what else the code calls for.
  details json not null,
  -- The body of the start.
  input json not null,
  -- Counts resumes; the workflow of each is another execution.
  generation integer not null default 0,
  next_seq integer not null default 1,
  started_at timestamptz not null default now(),
  completed_at timestamptz,
  -- The service knows that the workflow of this generation exists; until then the sweep starts it.
  workflow_started_at timestamptz,
  accepted_at timestamptz not null default now(),
  cancel_requested_at timestamptz
);
create index flow_runs_started on flow_runs (started_at, id);
create index flow_runs_owner on flow_runs (owner_id, started_at);
create index flow_runs_flow on flow_runs (flow_id, started_at);
create index flow_runs_unstarted on flow_runs (accepted_at) where workflow_started_at is null;
create index flow_runs_open on flow_runs (id) where status = 'ACTIVE';

create table flow_run_log (
  run_id uuid not null references flow_runs on delete cascade,
  seq integer not null,
  at timestamptz not null,
  code text not null,
  description text not null,
  details json not null,
  primary key (run_id, seq)
);
