-- API tokens are access tokens with an id, a name and scopes; their secret is random, so a fast hash keeps it.
alter table access_tokens
  add column id uuid,
  add column name text,
  add column last_used_at timestamptz,
  add constraint api_tokens_have_a_name check ((kind = 'api') = (id is not null and name is not null));
create unique index access_tokens_id on access_tokens (id) where id is not null;
create unique index access_tokens_name on access_tokens (identity_id, name) where kind = 'api';

-- A broker user that was made for the bearer of an API token ends with the token.
alter table broker_users add column token_id uuid;
create index broker_users_token on broker_users (token_id) where token_id is not null;
