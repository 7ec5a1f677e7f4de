-- What tells functions with the same code, which count once towards their owner's limit.
alter table functions add column code_key uuid generated always as (md5(code)::uuid) stored;
create index functions_owner_code on functions (owner_id, code_key) where deleted_at is null;

-- The audit log: one row for each change and each refusal, as the API saw it.
create table audit_entries (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  identity_id uuid,
  outcome text not null,
  entry jsonb not null
);
create index audit_entries_at on audit_entries (at);

-- An agent has a share of the dead letters: the oldest beyond it are removed.
create index dead_letters_key on dead_letters (queue, routing_key, id);
