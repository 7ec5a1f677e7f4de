import { TerminalError } from '../../contracts/errors';
import {
  deadLetterListSchema,
  deadLetterSchema,
  deadLettersQuerySchema,
  droppedDeadLetterSchema,
  replayedDeadLetterSchema,
} from '../../contracts/http/v1';
import { deleteDeadLetter, findDeadLetter, listDeadLetters, type DeadLetterRow } from '../../platform/store/dead-letters';
import type { ApiDeps } from '../deps';
import { route, type Call, type Route } from '../route';

/** Administrators look into messages that nobody could understand, and drop or replay them. */

/** Enough of a body to see what it is. */
const SHOWN_BYTES = 4_096;

export function deadLetterRoutes({ db, replay }: ApiDeps): Route[] {
  async function requireLetter(call: Call<unknown, unknown>): Promise<DeadLetterRow & { body: Buffer }> {
    const text = call.params.id ?? '';
    const row = /^\d{1,15}$/.test(text) ? await findDeadLetter(db, Number(text)) : undefined;
    if (!row) throw new TerminalError('NOT_FOUND', `there is no dead letter ${text.slice(0, 50)}; it was dropped, or replayed`);
    return row;
  }

  return [
    route({
      method: 'get',
      path: '/v1/dead-letters',
      summary: 'Messages that could not be understood, newest first',
      access: 'admin',
      query: deadLettersQuerySchema,
      response: deadLetterListSchema,
      handle: async ({ query }) => ({
        dead_letters: (await listDeadLetters(db, query.before, query.limit)).map(summaryOf),
      }),
    }),
    route({
      method: 'get',
      path: '/v1/dead-letters/:id',
      summary: 'One of them, with its headers and the beginning of its body',
      access: 'admin',
      response: deadLetterSchema,
      errors: ['NOT_FOUND'],
      handle: async (call) => {
        const row = await requireLetter(call);
        return { ...summaryOf(row), headers: row.headers, body_base64: row.body.subarray(0, SHOWN_BYTES).toString('base64') };
      },
    }),
    route({
      method: 'delete',
      path: '/v1/dead-letters/:id',
      summary: 'Drops it for good',
      access: 'admin',
      response: droppedDeadLetterSchema,
      errors: ['NOT_FOUND'],
      handle: async (call) => {
        const row = await requireLetter(call);
        await deleteDeadLetter(db, row.id);
        return { id: row.id, dropped: true };
      },
    }),
    route({
      method: 'post',
      path: '/v1/dead-letters/:id/replay',
      summary: 'Puts it back where it came from; it may come again',
      access: 'admin',
      response: replayedDeadLetterSchema,
      errors: ['NOT_FOUND', 'CONFLICT'],
      handle: async (call) => {
        const row = await requireLetter(call);
        if (!(await replay(row))) {
          throw new TerminalError('CONFLICT', `the queue ${row.queue} of dead letter ${row.id} does not exist any more; drop it`);
        }
        await deleteDeadLetter(db, row.id); // only after the broker has it: rather twice than never
        return { id: row.id, queue: row.queue, replayed: true };
      },
    }),
  ];
}

function summaryOf(row: DeadLetterRow): Record<string, unknown> {
  return {
    id: row.id,
    queue: row.queue,
    routing_key: row.routingKey,
    reason: row.reason,
    size: row.size,
    created_at: row.createdAt.toISOString(),
  };
}
