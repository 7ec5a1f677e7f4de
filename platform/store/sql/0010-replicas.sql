-- The pages of an owner's submissions, newest first.
create index submissions_owner on submissions (owner_id, id desc);

-- The last sign of life of each process of `api`: requests of a dead one were never answered.
create table api_processes (
  id uuid primary key,
  alive_at timestamptz not null
);
-- Every submit looks for an equal request.
create index unanswered_requests_equal on unanswered_requests (owner_id, body_hash);
drop index unanswered_requests_lost;
