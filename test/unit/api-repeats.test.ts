import { EventEmitter } from 'node:events';

import type { Response } from 'express';

import { createRepeats } from '../../api/repeats';
import type { Logger } from '../../platform/log';
import type { Database } from '../../platform/store/database';
import { until } from '../helpers/until';

test('an accepted request is answered although the record that guards against repeats cannot be removed yet', async () => {
  const outcomes = [new Error('the store is away'), undefined];
  let removals = 0;
  const db = {
    query: async () => {
      const outcome = outcomes[removals++];
      if (outcome) throw outcome;
      return { rows: [], rowCount: 1 };
    },
  } as unknown as Database;
  const log = { info: () => undefined, warn: () => undefined } as unknown as Logger;
  const repeats = createRepeats(db, log);
  const res = Object.assign(new EventEmitter(), { closed: false, destroyed: false }) as unknown as Response;
  const request = { ownerId: 'owner', endpointId: 'endpoint', response: {} };
  await expect(repeats.beforeAnswer(res, repeats.entry(Buffer.from('hash')), request)).resolves.toBeUndefined();
  await until('the record is removed by a later try', () => removals === 2);
});
