-- How far the answers of a group were taken by whoever listens on the results socket.
alter table task_groups add column socket_seq bigint not null default 0;

-- Codes of interactive logins: shown once, used once, good for minutes.
create table login_codes (
  hash bytea primary key,
  identity_id uuid not null references identities on delete cascade,
  client_id text not null,
  redirect_uri text not null,
  -- PKCE, method S256: base64url(sha256(verifier)).
  challenge text not null,
  scope text not null,
  expires_at timestamptz not null
);
