import { EventEmitter } from 'node:events';

import type { Response } from 'express';

import { createRepeats } from '../../api/repeats';
import type { Logger } from '../../platform/log';
import type { Database } from '../../platform/store/database';
import { until } from '../helpers/until';

const REQUEST = { ownerId: 'owner', endpointId: 'endpoint', response: {} };
const log = { info: () => undefined, warn: () => undefined } as unknown as Logger;

function openResponse(): Response & EventEmitter {
  return Object.assign(new EventEmitter(), { closed: false, destroyed: false }) as unknown as Response & EventEmitter;
}

test('a response does not wait until its record is removed; if the connection closes before it is sent, the record is stored again', async () => {
  const statements: string[] = [];
  let remove: () => void = () => undefined;
  const removed = new Promise<void>((resolve) => (remove = resolve));
  const db = {
    query: async (statement: string | { text: string }) => {
      const text = typeof statement === 'string' ? statement : statement.text;
      statements.push(text.trim().split(' ', 1)[0] ?? '');
      if (text.startsWith('delete')) await removed;
      return { rows: [], rowCount: 1 };
    },
  } as unknown as Database;
  const repeats = createRepeats(db, log);
  const res = openResponse();
  await repeats.beforeAnswer(res, repeats.entry(Buffer.from('hash')), REQUEST);
  expect(statements).toEqual(['delete']);
  res.emit('close');
  remove();
  await until('the lost response is recorded after the removal', () => statements.length === 2);
  expect(statements).toEqual(['delete', 'insert']);
});

test('an accepted request is answered although the record that guards against repeats cannot be removed yet', async () => {
  const outcomes = [new Error('the store is unavailable'), undefined];
  let removals = 0;
  const db = {
    query: async () => {
      const outcome = outcomes[removals++];
      if (outcome) throw outcome;
      return { rows: [], rowCount: 1 };
    },
  } as unknown as Database;
  const repeats = createRepeats(db, log);
  await expect(repeats.beforeAnswer(openResponse(), repeats.entry(Buffer.from('hash')), REQUEST)).resolves.toBeUndefined();
  await until('the record is removed by a repetition', () => removals === 2);
});
