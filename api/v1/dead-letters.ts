import { TerminalError } from '../../contracts/errors';
import {
  deadLetterListSchema,
  deadLetterSchema,
  deadLettersQuerySchema,
  droppedDeadLetterSchema,
  requeuedDeadLetterSchema,
} from '../../contracts/http/v1';
import { deleteDeadLetter, findDeadLetter, listDeadLetters, type DeadLetterRow } from '../../platform/store/dead-letters';
import type { ApiDeps } from '../deps';
import { route, type RouteRequest, type Route } from '../route';

/** Administrators inspect messages that the service could not process, and drop or requeue them. */

const SHOWN_BYTES = 4_096;

export function deadLetterRoutes({ db, requeue }: ApiDeps): Route[] {
  async function requireLetter(request: RouteRequest<unknown, unknown>): Promise<DeadLetterRow & { body: Buffer }> {
    const text = request.params.id ?? '';
    const row = /^\d{1,15}$/.test(text) ? await findDeadLetter(db, Number(text)) : undefined;
    if (!row)
      throw new TerminalError(
        'NOT_FOUND',
        `dead letter ${text.slice(0, 50)} does not exist; it may have been dropped or requeued`,
      );
    return row;
  }

  const requeueRoute = (path: string, summary: string): Route =>
    route({
      method: 'post',
      path,
      summary,
      access: 'admin',
      response: requeuedDeadLetterSchema,
      errors: ['NOT_FOUND', 'CONFLICT'],
      handle: async (request) => {
        const row = await requireLetter(request);
        if (!(await requeue(row))) {
          throw new TerminalError(
            'CONFLICT',
            `the queue ${row.queue} of dead letter ${row.id} no longer exists; drop the dead letter`,
          );
        }
        // Delete after the broker confirms: a crash in between may requeue the letter twice, but never loses it.
        await deleteDeadLetter(db, row.id);
        return { id: row.id, queue: row.queue, requeued: true, replayed: true };
      },
    });

  return [
    route({
      method: 'get',
      path: '/v1/dead-letters',
      summary: 'Lists messages that the service could not process, newest first',
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
      summary: 'Shows a dead letter with its headers and the beginning of its body',
      access: 'admin',
      response: deadLetterSchema,
      errors: ['NOT_FOUND'],
      handle: async (request) => {
        const row = await requireLetter(request);
        return { ...summaryOf(row), headers: row.headers, body_base64: row.body.subarray(0, SHOWN_BYTES).toString('base64') };
      },
    }),
    route({
      method: 'delete',
      path: '/v1/dead-letters/:id',
      summary: 'Deletes a dead letter',
      access: 'admin',
      response: droppedDeadLetterSchema,
      errors: ['NOT_FOUND'],
      handle: async (request) => {
        const row = await requireLetter(request);
        await deleteDeadLetter(db, row.id);
        return { id: row.id, dropped: true };
      },
    }),
    requeueRoute('/v1/dead-letters/:id/requeue', 'Puts a dead letter back on the queue that it came from'),
    requeueRoute('/v1/dead-letters/:id/replay', 'The former name of requeue'),
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
