-- The identity of an agent: it may register this endpoint for the endpoint's owner, and do nothing else.
alter table identities
  add column agent_endpoint_id uuid,
  add column agent_owner_id uuid references identities on delete cascade,
  add column agent_may_be_public boolean not null default false,
  add constraint agents_have_an_owner check ((agent_endpoint_id is null) = (agent_owner_id is null));
