import { randomUUID } from 'node:crypto';

import { TerminalError } from '../../contracts/errors';
import { deletedSchema, functionDocumentSchema, functionIdSchema, registerFunctionSchema } from '../../contracts/http/globus';
import { BUFFER, packBuffer } from '../../contracts/packing';
import { deleteFunction, insertFunction } from '../../platform/store/functions';
import { requireFunction, requireGroup, unknownContainer } from '../checks';
import type { ApiDeps } from '../deps';
import { requirePacked } from '../../accepting/payloads';
import { idParameter, route, type Route } from '../route';

/** Function routes for Globus Compute clients: register, read and delete. */

const SOURCE_BUFFER = { python: BUFFER.pythonSource, javascript: BUFFER.javascriptSource, shell: BUFFER.shell } as const;

export function functionRoutes({ db, config, quotas }: ApiDeps): Route[] {
  const register = (path: string): Route =>
    route({
      method: 'post',
      path,
      summary: 'Registers a function; every request creates a new ID',
      body: registerFunctionSchema,
      bodySize: 'large' as const,
      response: functionIdSchema,
      errors: ['PAYLOAD_TOO_LARGE', 'FORBIDDEN', 'LIMIT_EXCEEDED'],
      handle: async ({ identity, body }) => {
        if (body.serialized && body.language !== 'python') {
          throw new TerminalError(
            'INVALID_REQUEST',
            `a ${body.language} function must be registered as source; send "serialized": false`,
          );
        }
        const code = body.serialized
          ? body.function_code
          : packBuffer(SOURCE_BUFFER[body.language], `${body.function_name}:${body.function_code}`);
        requirePacked(code, config.FUNCX_MAX_BODY_CHARS, `the code of function ${body.function_name}`);
        if (body.container_uuid) throw unknownContainer(body.container_uuid);
        if (body.group) await requireGroup(db, identity, body.group, 'FORBIDDEN');
        await quotas.requireRoomForFunction(identity.id, Buffer.from(code));
        const id = randomUUID();
        await insertFunction(db, {
          id,
          ownerId: identity.id,
          name: body.function_name,
          code: Buffer.from(code),
          isSerialized: body.serialized,
          // The SDK sends the docstring, and Postgres stores no NUL.
          description: body.description?.replaceAll('\0', '\uFFFD') ?? null,
          isPublic: body.public ?? false,
          groupId: body.group ?? null,
          metadata: { ...body.meta, ...(body.serialized ? {} : { language: body.language }) },
          policy: body.policy ?? {},
        });
        return { function_uuid: id };
      },
    });

  return [
    register('/v3/functions'),
    register('/v2/functions'),
    route({
      method: 'get',
      path: '/v2/functions/:id',
      summary: 'Returns a function that is yours, public or shared with you',
      response: functionDocumentSchema,
      errors: ['FUNCTION_NOT_FOUND'],
      handle: async (request) => {
        const fn = await requireFunction(db, request.identity, 'view', idParameter(request, 'id', 'FUNCTION_NOT_FOUND'));
        return {
          function_uuid: fn.id,
          function_name: fn.name,
          function_code: fn.code.toString(),
          description: fn.description,
          public: fn.isPublic,
          group: fn.groupId,
          owner_id: fn.ownerId,
          metadata: fn.metadata,
          policy: fn.policy,
          created_at: fn.createdAt.toISOString(),
        };
      },
    }),
    route({
      method: 'delete',
      path: '/v2/functions/:id',
      summary: 'Deletes a function; tasks that were already accepted still run',
      response: deletedSchema,
      errors: ['FUNCTION_NOT_FOUND', 'FORBIDDEN'],
      handle: async (request) => {
        const fn = await requireFunction(db, request.identity, 'manage', idParameter(request, 'id', 'FUNCTION_NOT_FOUND'));
        await deleteFunction(db, fn.id);
        return { result: 302 };
      },
    }),
  ];
}
