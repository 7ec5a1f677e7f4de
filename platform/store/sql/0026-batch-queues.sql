-- Whether answers are also published, in batches, to a queue of the group whose readers understand batches.
alter table task_groups add column has_batch_queue boolean not null default false;
