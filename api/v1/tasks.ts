import { TerminalError } from '../../contracts/errors';
import { cancelledSchema, taskQuerySchema, taskStateSchema, uploadedSchema, uploadQuerySchema } from '../../contracts/http/v1';
import { isEndState } from '../../contracts/states';
import { verifyBodyToken, type BodyPurpose } from '../../platform/body-tokens';
import { readLastSeqs, readTaskBody, type TaskRow } from '../../platform/store/tasks';
import { saveUploadInParts } from '../../platform/store/uploads';
import type { ApiDeps } from '../deps';
import { bearerToken } from '../middleware/authenticate';
import { taskStateDocument, withoutBodies } from '../results';
import { ANSWERED, idParameter, route, type RequestHead, type RouteRequest, type Route } from '../route';
import { requireTask } from '../task-lookup';
import { untilClosed } from '../until-closed';

/** Task routes: state, cancel, and the bodies for the agent that runs the task. */

/** Bytes of an upload that are held in memory, and stored by one statement. */
const PART_BYTES = 1024 * 1024;

export function taskRoutes(deps: ApiDeps): Route[] {
  const { db, config, cancel } = deps;

  function requireAttempt(request: RequestHead, purpose: BodyPurpose): { taskId: string; attempt: number } {
    const taskId = idParameter(request, 'id', 'TASK_NOT_FOUND');
    const token = bearerToken(request.req.headers.authorization, "send the token from the task's message");
    const attempt = verifyBodyToken(config.FUNCX_TOKEN_KEY, purpose, taskId, token);
    if (attempt === undefined)
      throw new TerminalError(
        'UNAUTHENTICATED',
        `the token is not valid for the ${purpose} of task ${taskId}; send the token from the task's message`,
      );
    return { taskId, attempt };
  }

  return [
    route({
      method: 'get',
      path: '/v1/tasks/:id',
      summary: 'Returns the state of a task; with wait_s, waits for its answer',
      query: taskQuerySchema,
      response: taskStateSchema,
      errors: ['TASK_NOT_FOUND', 'EXPIRED'],
      handle: async (request) => {
        const id = idParameter(request, 'id', 'TASK_NOT_FOUND');
        const row = await requireTask(db, config, request.identity, id, 'view');
        const document = taskStateDocument(await waitForAnswer(deps, request, row, request.query.wait_s * 1000));
        return row.ownerId === request.identity.id ? document : withoutBodies(document);
      },
    }),
    route({
      method: 'post',
      path: '/v1/tasks/:id/cancel',
      summary: 'Cancels an open task',
      response: cancelledSchema,
      errors: ['TASK_NOT_FOUND', 'EXPIRED'],
      handle: async (request) => {
        const id = idParameter(request, 'id', 'TASK_NOT_FOUND');
        const row = await requireTask(db, config, request.identity, id, 'manage');
        return cancel({ taskIds: [row.id] });
      },
    }),
    route({
      method: 'get',
      path: '/v1/tasks/:id/body',
      summary: 'For agents: returns the code and arguments of a task whose message has a body reference',
      access: 'attempt-token',
      contentType: 'text/plain',
      errors: ['UNAUTHENTICATED', 'TASK_NOT_FOUND'],
      authorize: (request) => void requireAttempt(request, 'body'),
      handle: async (request) => {
        const taskId = idParameter(request, 'id', 'TASK_NOT_FOUND');
        const body = await readTaskBody(db, taskId);
        if (!body)
          throw new TerminalError(
            'TASK_NOT_FOUND',
            `the body of task ${taskId} no longer exists; the task has its answer or was deleted`,
          );
        request.res.type('text/plain; charset=utf-8').send(body);
        return ANSWERED;
      },
    }),
    route({
      method: 'put',
      path: '/v1/tasks/:id/result',
      summary: 'For agents: uploads a large result before the result message is published',
      access: 'attempt-token',
      bodyKind: 'stream',
      query: uploadQuerySchema,
      response: uploadedSchema,
      errors: ['UNAUTHENTICATED', 'PAYLOAD_TOO_LARGE'],
      authorize: (request) => {
        const { taskId, attempt } = requireAttempt(request, 'result');
        if (Number((request.query as { attempt?: unknown }).attempt) !== attempt) {
          throw new TerminalError(
            'UNAUTHENTICATED',
            `the token is for attempt ${attempt} of task ${taskId}; send ?attempt=${attempt}`,
          );
        }
      },
      handle: async (request) => {
        const taskId = idParameter(request, 'id', 'TASK_NOT_FOUND');
        const { attempt } = request.query;
        const chunks = request.req.body as AsyncIterable<Buffer>;
        await saveUploadInParts(db, taskId, attempt, partsOf(chunks, taskId, config.FUNCX_MAX_BODY_CHARS));
        return { stored: true };
      },
    }),
  ];
}

/** Gathers the chunks of a result into parts for the store. Throws if the result has too many characters. */
async function* partsOf(chunks: AsyncIterable<Buffer>, taskId: string, maxChars: number): AsyncGenerator<Buffer, void> {
  let held: Buffer[] = [];
  let bytes = 0;
  let chars = 0;
  for await (const chunk of chunks) {
    chars += countCodePoints(chunk);
    if (chars > maxChars) {
      throw new TerminalError(
        'PAYLOAD_TOO_LARGE',
        `the result of task ${taskId} has more than ${maxChars} serialized characters, which is the limit`,
      );
    }
    held.push(chunk);
    bytes += chunk.length;
    if (bytes < PART_BYTES) continue;
    yield Buffer.concat(held);
    held = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(held);
}

/** Counts the bytes that start a character in UTF-8. */
function countCodePoints(utf8: Buffer): number {
  let count = 0;
  for (const byte of utf8) if ((byte & 0xc0) !== 0x80) count++;
  return count;
}

async function waitForAnswer(
  { db, config, groupWatch, stopping, revocations }: ApiDeps,
  request: RouteRequest<unknown, unknown>,
  first: TaskRow,
  waitMs: number,
): Promise<TaskRow> {
  const deadlineMs = Date.now() + waitMs;
  const closed = untilClosed(request.res, stopping, (end) => revocations.watch(request.identity, end));
  let row = first;
  while (!isEndState(row.state) && Date.now() < deadlineMs && !closed.signal.aborted) {
    // Read the cursor before the task, so that an answer that arrives in between moves the cursor and ends the wait.
    const seq = (await readLastSeqs(db, [row.taskGroupId])).get(row.taskGroupId) ?? 0;
    row = await requireTask(db, config, request.identity, row.id, 'view');
    if (isEndState(row.state)) break;
    await groupWatch.waitFor(row.taskGroupId, seq, deadlineMs - Date.now(), closed.signal);
    row = await requireTask(db, config, request.identity, row.id, 'view');
  }
  closed.release();
  return row;
}
