-- Bytes of the arguments and results of a submission, for the limit of its owner. Arguments and results are kept equally long.
alter table submissions add column stored_bytes bigint not null default 0;

update submissions submission set stored_bytes = stored.bytes
  from (select (left(task.id::text, 31) || '00000')::uuid as id,
               sum(task.payload_size::bigint + coalesce(octet_length(result.frame), 0)) as bytes
          from tasks task left join results result on result.id = task.id group by 1) stored
 where stored.id = submission.id;
