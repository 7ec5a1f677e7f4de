-- Whether an owner may have more open tasks is asked at accept.
create index submissions_open_owner on submissions (owner_id) where open > 0;
