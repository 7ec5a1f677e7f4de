-- The code with which an agent on another machine enrols for an endpoint. An endpoint has at most one: the newest.
create table enrolment_codes (
  endpoint_id uuid primary key references endpoints on delete cascade,
  -- SHA-256 of the code's secret.
  hash bytea not null,
  created_by uuid not null references identities on delete cascade,
  expires_at timestamptz not null,
  used_at timestamptz,
  -- The identity of the agent that enrolled last. The next enrolment revokes it.
  agent_id uuid references identities on delete set null
);
