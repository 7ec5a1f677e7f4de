-- The sweep delivers the answers of each task group apart, so that a queue that refuses answers delays no other group.
create index tasks_undelivered_by_group on tasks (task_group_id, answered_at)
  where answered_at is not null and delivered_at is null;

-- The sweep finds submissions whose workflow does not release the delayed tasks that are due.
create index tasks_due on tasks (due_at) where state = 'delayed';
