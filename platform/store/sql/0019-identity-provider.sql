-- Identities of the users of an OpenID Connect provider: they have no secret here, and are found by issuer and subject.
alter table identities
  alter column secret_hash drop not null,
  add column issuer text,
  add column subject text,
  -- The provider's groups, as the latest token named them.
  add column provider_groups text[] not null default '{}',
  add constraint subjects_have_an_issuer check ((issuer is null) = (subject is null)),
  add constraint local_identities_have_a_secret check (issuer is not null or secret_hash is not null);
create unique index identities_subject on identities (issuer, subject);

-- Whoever is in this group of the provider is a member.
alter table groups add column provider_group text;
create index groups_provider_group on groups (provider_group) where provider_group is not null;
alter table group_members add column from_provider boolean not null default false;

-- A login through the provider ends then, however often its refresh tokens were used.
alter table access_tokens add column login_ends_at timestamptz;
