-- Which identity the calls of a pipeline act as: that of whoever registered the task queue of its workflows first.
create table pipeline_queues (
  namespace text not null,
  task_queue text not null,
  identity_id uuid not null references identities on delete cascade,
  registered_at timestamptz not null default now(),
  primary key (namespace, task_queue)
);

-- Results of earlier tasks that stand in the arguments of a task; its body is put together when it is sent.
create table payload_references (
  id uuid not null,
  position integer not null,
  source uuid not null,
  primary key (id, position)
);

-- One registration a name, version and owner: a worker that starts again finds its functions.
create unique index functions_version on functions (owner_id, name, (metadata ->> 'version'))
  where deleted_at is null and metadata ? 'pipeline';
