-- Room of an owner's quota that processes use without counting again. Not logged: leases last for seconds, and a crash of the
-- server breaks the connections of the requests that use them.
create unlogged table quota_leases (
  owner_id uuid not null,
  quota text not null,
  process uuid not null,
  room bigint not null,
  expires_at timestamptz not null,
  primary key (owner_id, quota, process)
);
create index quota_leases_age on quota_leases (expires_at);
