import { randomUUID } from 'node:crypto';

import { registeredPipelineSchema, registerPipelineSchema } from '../../contracts/call-schemas';
import { TerminalError } from '../../contracts/errors';
import { BUFFER, packBuffer } from '../../contracts/packing';
import { bindPipelineQueue, savePipelineFunction } from '../../platform/store/pipelines';
import type { ApiDeps } from '../deps';
import { requirePacked } from '../../accepting/payloads';
import { route, type Route } from '../route';

/** Registration of a pipeline's Temporal task queue: the identity of its calls, and the functions declared with its workflows. */

const SOURCE_BUFFER = { python: BUFFER.pythonSource, javascript: BUFFER.javascriptSource, shell: BUFFER.shell } as const;

export function pipelineRoutes({ db, config, quotas }: ApiDeps): Route[] {
  return [
    route({
      method: 'put',
      path: '/v1/pipelines/:queue',
      summary: 'Lets calls from workflows on a Temporal task queue act as you, and registers their functions by name and version',
      body: registerPipelineSchema,
      bodySize: 'large' as const,
      response: registeredPipelineSchema,
      errors: ['CONFLICT', 'PAYLOAD_TOO_LARGE'],
      handle: async ({ identity, body, params }) => {
        const taskQueue = params.queue ?? '';
        if (
          !(await bindPipelineQueue(db, {
            namespace: body.namespace,
            taskQueue,
            identityId: identity.id,
            isAdmin: identity.isAdmin,
          }))
        ) {
          throw new TerminalError(
            'CONFLICT',
            `the task queue ${taskQueue.slice(0, 200)} of namespace ${body.namespace} is registered by another identity; use another task queue, or ask an administrator to register it`,
          );
        }
        const functions = [];
        for (const { name, version, source, language } of body.functions) {
          const code = packBuffer(SOURCE_BUFFER[language], `${name}:${source}`);
          requirePacked(code, config.FUNCX_MAX_BODY_CHARS, `the code of function ${name}`);
          await quotas.requireRoomForFunction(identity.id, Buffer.from(code));
          const saved = await savePipelineFunction(db, randomUUID(), {
            ownerId: identity.id,
            name,
            version,
            code: Buffer.from(code),
            language,
          });
          if (!saved.isSame) {
            throw new TerminalError(
              'CONFLICT',
              `function ${name}@${version} is already registered with different code; use another version`,
            );
          }
          functions.push({ name, version, function_uuid: saved.id });
        }
        return { task_queue: taskQueue, namespace: body.namespace, identity: identity.name, functions };
      },
    }),
  ];
}
