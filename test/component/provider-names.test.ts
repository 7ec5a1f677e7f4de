import { userOf, type ClaimSettings } from '../../platform/oidc/claims';
import { ensureProviderIdentity } from '../../platform/store/provider-identities';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

/** Names of the users of an identity provider, who may choose their names there. */

const SETTINGS: ClaimSettings = {
  issuer: 'https://login.example',
  nameClaim: 'preferred_username',
  groupsClaims: [],
  allowedGroups: [],
};

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

test('a user can log in although other users have taken the names that this user would get', async () => {
  const alice = userOf({ sub: '1', preferred_username: 'alice' }, SETTINGS);
  const taken = alice.names.map((name) => name.split('@')[0]);
  const others = taken.map((name, n) => userOf({ sub: `other ${n}`, preferred_username: name }, SETTINGS));
  for (const other of others) await ensureProviderIdentity(postgres.db, other);
  const { id, name } = await ensureProviderIdentity(postgres.db, alice);
  expect(id).toBe(alice.id);
  expect(name).toMatch(/^alice-[0-9a-f]{8}-[0-9a-f]{8}@login\.example$/);
  expect((await ensureProviderIdentity(postgres.db, alice)).name).toBe(name);
});
