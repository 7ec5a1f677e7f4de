-- Runs of a flow at times. When they are due is known to Temporal; this says whose they are and what they start.
create table schedules (
  id uuid primary key,
  owner_id uuid not null references identities on delete cascade,
  name text not null,
  flow_id uuid not null references flows,
  -- The flow was made for a single function, and goes with the schedule.
  owns_flow boolean not null,
  input json not null,
  created_at timestamptz not null default now(),
  deleted_at timestamptz
);
create unique index schedules_name on schedules (owner_id, name) where deleted_at is null;
