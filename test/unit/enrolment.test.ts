import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { reachabilityNotes } from '../../api/v1/enrolment';
import { decodeEnrolmentCode, encodeEnrolmentCode } from '../../client';
import { enrolSchema } from '../../contracts/http/v1-identities';
import { enrol } from '../../endpoint/installed/enrol';
import { dirOf, readDraft, readIdentity, requireName, writeIdentity } from '../../endpoint/installed/folders';
import { ensureCertificates } from '../../local/engines/certificates';
import { layoutOf, makeFolders } from '../../local/machine/layout';
import { userOf } from '../../platform/oidc/claims';

/** What an enrolment code holds, and what the agent and the service say of addresses that cannot work. */

const CODE = {
  apiUrl: 'https://funcx.example',
  endpointId: '10000000-0000-4000-8000-000000000001',
  name: 'laptop',
  secret: 'a-secret',
};

const home = mkdtempSync(join(tmpdir(), 'funcx-enrol-'));
const before = process.env.FUNCX_ENDPOINT_HOME;
beforeAll(() => (process.env.FUNCX_ENDPOINT_HOME = home));
afterAll(() => {
  if (before === undefined) delete process.env.FUNCX_ENDPOINT_HOME;
  else process.env.FUNCX_ENDPOINT_HOME = before;
  rmSync(home, { recursive: true });
});

describe('an enrolment code', () => {
  test('is one word that holds everything, with the private authority of the service', () => {
    const layout = layoutOf(join(home, 'system'));
    makeFolders(layout);
    const authority = readFileSync(ensureCertificates(layout).authority, 'utf8');
    const code = encodeEnrolmentCode({ ...CODE, authority });
    expect(code).toMatch(/^fxe1_[\w-]+$/);
    expect(decodeEnrolmentCode(`  ${code}\n`)).toEqual({ ...CODE, authority });
    expect(decodeEnrolmentCode(encodeEnrolmentCode(CODE))).toEqual(CODE);
  });

  test('that was cut off is refused with what to do', () => {
    for (const wrong of ['', 'fxe1_', encodeEnrolmentCode(CODE).slice(0, -9), 'fxe1_bm90IGpzb24', 'hello']) {
      expect(() => decodeEnrolmentCode(wrong)).toThrow('copy all of it');
    }
  });
});

describe('the agent', () => {
  test('sends no secret in clear to another machine, unless it is told to', async () => {
    const code = encodeEnrolmentCode({ ...CODE, apiUrl: 'http://funcx.example' });
    await expect(enrol(code, { isHttpAllowed: false })).rejects.toThrow('--insecure-http');
    expect(readDraft('laptop')).toBeUndefined();
  });

  test('keeps its identity in a file for its user alone, and refuses a name that another endpoint has', async () => {
    const identity = { api_url: 'http://localhost:5000', endpoint_id: CODE.endpointId, client_id: 'c', client_secret: 's' };
    writeIdentity('mine', { ...identity, name: 'mine' }, undefined);
    expect(readIdentity('mine')).toMatchObject(identity);
    expect(statSync(join(dirOf('mine'), 'identity.json')).mode & 0o777).toBe(0o600);
    expect(statSync(dirOf('mine')).mode & 0o777).toBe(0o700);
    expect(readFileSync(join(dirOf('mine'), 'identity.json'), 'utf8')).toContain('"c"');
    const other = { ...CODE, name: 'mine', endpointId: '10000000-0000-4000-8000-000000000002' };
    await expect(enrol(encodeEnrolmentCode(other), { isHttpAllowed: false })).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(requireName(undefined)).toBe('mine');
    expect(() => requireName('laptop')).toThrow(
      'Known here: mine. Ask the owner of the endpoint to run "funcx endpoint invite laptop"',
    );
  });
});

test('an agent cannot take the ID of a provider user who has not logged in yet', () => {
  const settings = { issuer: 'https://login.example', nameClaim: 'name', groupsClaims: [], allowedGroups: [] };
  const victim = userOf({ sub: 'victim' }, settings);
  const enrolled = (id: string) => enrolSchema.safeParse({ client_id: id, client_secret: 's'.repeat(40) });
  const refused = enrolled(victim.id);
  expect(refused.error?.issues).toMatchObject([{ path: ['client_id'], message: 'must be a UUID of version 4' }]);
  expect(enrolled(randomUUID()).success).toBe(true);
  expect(enrolled(randomUUID().toUpperCase()).success).toBe(true);
});

test('the service tells what another machine could not reach', () => {
  const [local, broker] = ['http://localhost:5000', 'amqps://127.0.0.1:5671/funcx'];
  expect(reachabilityNotes('https://funcx.example', 'amqps://broker.example/funcx')).toEqual([]);
  expect(reachabilityNotes(local, broker)).toEqual([expect.stringContaining('through a tunnel')]);
  expect(reachabilityNotes('https://funcx.example', broker)).toEqual([expect.stringContaining('Set AMQP_PUBLIC_URL')]);
  expect(reachabilityNotes(local, 'amqps://broker.example/funcx')).toEqual([expect.stringContaining('Set API_PUBLIC_URL')]);
  expect(reachabilityNotes('http://funcx.example', 'amqps://broker.example/funcx')).toEqual([
    expect.stringContaining('is not encrypted'),
  ]);
});
