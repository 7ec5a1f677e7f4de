-- The sweep cancels runs for which a cancellation was requested, until they end.
create index flow_runs_cancelled on flow_runs (cancel_requested_at)
  where cancel_requested_at is not null and status = 'ACTIVE';
