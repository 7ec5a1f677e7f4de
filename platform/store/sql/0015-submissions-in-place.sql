-- Storing results lowers `open`. While `open` stood in the conditions of indexes, each of these updates wrote an entry into
-- every index of the table. `is_open` changes once in the life of a submission, so the other updates are made in place.
alter table submissions add column is_open boolean generated always as (open > 0) stored;
alter table submissions set (fillfactor = 80);

drop index submissions_open_endpoint, submissions_open, submissions_open_owner, submissions_all_answered, submissions_by_deadline;
create index submissions_open_endpoint on submissions (endpoint_id) where is_open;
create index submissions_open_owner on submissions (owner_id) where is_open;
create index submissions_all_answered on submissions (id) where finished_at is null and not is_open;
create index submissions_by_deadline on submissions (deadline_at) where finished_at is null and is_open;
