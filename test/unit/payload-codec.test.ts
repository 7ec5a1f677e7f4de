import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { defaultPayloadConverter, type Payload } from '@temporalio/common';

import { createPayloadCodec, PayloadKeyError, readPayloadKeys, type PayloadKeys } from '../../client/payload-codec';
import { INPUT_ERROR_KEY } from '../../contracts/calls';
import { payloadConverter } from '../../workflows/call-payloads';

const dir = mkdtempSync(join(tmpdir(), 'funcx-keys-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const [OLD, NEW, OTHER] = ['1', '2', '3'].map((digit) => digit.repeat(64));
function keysOf(text: string): PayloadKeys {
  const file = join(dir, 'keys');
  writeFileSync(file, text);
  return readPayloadKeys(file);
}
const payloadOf = (value: unknown): Payload => defaultPayloadConverter.toPayload(value);
const SECRET = { args: ['the patient is called Ada'] };

test('what is encrypted cannot be read without the key, and is the same afterwards', async () => {
  const codec = createPayloadCodec({ keys: keysOf(`k1 ${OLD}`) });
  const [one, other] = await codec.encode([payloadOf(SECRET), payloadOf(SECRET)]);
  for (const payload of [one, other]) {
    expect(Buffer.from(payload?.data ?? []).toString('latin1')).not.toContain('Ada');
    expect(Buffer.from(payload?.metadata?.['encryption-key-id'] ?? []).toString()).toBe('k1');
  }
  expect(Buffer.from(one?.data ?? []).equals(Buffer.from(other?.data ?? []))).toBe(false);
  const [read] = await codec.decode([one ?? {}]);
  expect(defaultPayloadConverter.fromPayload(read ?? {})).toEqual(SECRET);
});

test('after a rotation, the new key encrypts and the old one still decrypts; so does what was never encrypted', async () => {
  const before = createPayloadCodec({ keys: keysOf(`k1 ${OLD}`) });
  const after = createPayloadCodec({ keys: keysOf(`# rotated\n\nk2 ${NEW}\nk1 ${OLD}\n`) });
  const recorded = [
    ...(await before.encode([payloadOf('old')])),
    payloadOf('plain'),
    ...(await after.encode([payloadOf('new')])),
  ];
  expect((await after.decode(recorded)).map((payload) => defaultPayloadConverter.fromPayload(payload))).toEqual([
    'old',
    'plain',
    'new',
  ]);
  expect(Buffer.from(recorded[2]?.metadata?.['encryption-key-id'] ?? []).toString()).toBe('k2');
});

test('a key that is missing or another one is refused by its ID', async () => {
  const recorded = await createPayloadCodec({ keys: keysOf(`k1 ${OLD}`) }).encode([payloadOf(SECRET)]);
  const missing = createPayloadCodec({ keys: keysOf(`k2 ${NEW}`) }).decode(recorded);
  await expect(missing).rejects.toThrow('encrypted with the key "k1", which is not in the key file');
  const wrong = createPayloadCodec({ keys: keysOf(`k1 ${OTHER}`) }).decode(recorded);
  await expect(wrong).rejects.toThrow(PayloadKeyError);
  await expect(wrong).rejects.toThrow('encrypted with the key "k1", but the key file has a different key with this ID');
  const changed = { ...recorded[0], data: Buffer.from(recorded[0]?.data ?? []).fill(0, 20, 21) };
  await expect(createPayloadCodec({ keys: keysOf(`k1 ${OLD}`) }).decode([changed])).rejects.toThrow(PayloadKeyError);
});

test('the input of a call that nobody here can decrypt refuses the call and names the key', async () => {
  const recorded = await createPayloadCodec({ keys: keysOf(`theirs ${OTHER}`) }).encode([payloadOf(SECRET)]);
  const codec = createPayloadCodec({ keys: keysOf(`k1 ${OLD}`), keepUnreadable: true });
  const [kept] = await codec.decode(recorded);
  expect(payloadConverter.fromPayload<Record<string, string>>(kept ?? {})[INPUT_ERROR_KEY]).toContain(
    'encrypted with the key "theirs", which the service does not have',
  );
});

test('a key file that is not valid is refused by its line, without showing a key', () => {
  const refused = (text: string): string => {
    try {
      keysOf(text);
    } catch (error) {
      return (error as Error).message;
    }
    return 'accepted';
  };
  expect(refused(`k1 ${OLD}\nk2 ${NEW}00`)).toMatch(/^line 2 of .* is not an ID and a key of 64 hex digits$/);
  expect(refused(`k1 ${OLD}\nk1 ${NEW}`)).toContain('has the ID "k1" a second time');
  expect(refused('# none\n')).toContain('has no key');
  expect(refused(`k1 ${OLD}\nk2 ${NEW}00`)).not.toContain(NEW);
});
