-- incompatible: earlier versions read the tables under their old names
-- "Task queue" is Temporal's word; ours are endpoint queues.
-- The functions make their type again, with the new name of its field.
drop type if exists completing_task;
alter table task_queues rename to endpoint_queues;
alter table broker_users rename column task_queue_id to endpoint_queue_id;
alter table submissions rename column task_queue_id to endpoint_queue_id;
alter table tasks rename column task_queue_id to endpoint_queue_id;
