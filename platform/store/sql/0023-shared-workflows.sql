-- Submissions that were accepted at the same time may share one workflow. Their ids follow each other: these are the first and
-- the last of them. Null where a submission has a workflow of its own.
alter table submissions add column first_id uuid, add column last_id uuid;
