-- Parts of an upload that has not ended. The last part makes one row of uploads of them.
create table upload_parts (
  upload_id uuid not null,
  part integer not null,
  body bytea not null,
  created_at timestamptz not null default now(),
  primary key (upload_id, part)
);
