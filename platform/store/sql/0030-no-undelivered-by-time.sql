-- Replaced by tasks_undelivered_by_group. In a file of its own, because this lock excludes writers: in one transaction with the new
-- indexes, it would deadlock with them, and keep them away while the indexes are built.
drop index if exists tasks_undelivered;
