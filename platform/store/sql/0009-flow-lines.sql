-- Where each line of a run is: the run itself (line ''), an item of a Map, a branch of a Parallel. The workflow asks for one
-- step after another; `position` counts the answers, so that an answer that got lost is given again.
create table flow_lines (
  run_id uuid not null references flow_runs on delete cascade,
  line text not null,
  -- Which definition inside the run's definition: names of states and places.
  scope json not null default '[]',
  -- Of an item of a Map: what its paths see beside the context of the run.
  context json not null default '{}',
  position integer not null default 0,
  generation integer not null default 0,
  -- running, succeeded, failed
  status text not null default 'running',
  -- The state that is to be entered, or is entered when `pending` is set.
  state text,
  -- JSON text; `json` would parse it for nothing.
  data text not null,
  pending json,
  step json,
  error json,
  entered integer not null default 0,
  primary key (run_id, line)
);
