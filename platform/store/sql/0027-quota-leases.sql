-- Room of an owner's quota that processes use without counting again. Not logged: leases last for seconds. A crash of the server
-- forgets them, also shares that are in use: for some seconds, other processes may then lease the same room. No index on the time:
-- the table is small, and an index would make each renewal slower.
create unlogged table quota_leases (
  owner_id uuid not null,
  quota text not null,
  process uuid not null,
  room bigint not null,
  expires_at timestamptz not null,
  primary key (owner_id, quota, process)
);
