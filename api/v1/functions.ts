import { functionListSchema, functionsQuerySchema } from '../../contracts/http/v1';
import { listFunctions } from '../../platform/store/functions';
import type { ApiDeps } from '../deps';
import { route, type Route } from '../route';

export function functionListRoute({ db }: ApiDeps): Route {
  return route({
    method: 'get',
    path: '/v1/functions',
    summary: 'Lists your functions, newest first',
    query: functionsQuerySchema,
    response: functionListSchema,
    handle: async ({ identity, query }) => ({
      functions: (await listFunctions(db, identity.id, { name: query.name, codeSha256: query.code_sha256 })).map((fn) => ({
        function_uuid: fn.id,
        function_name: fn.name,
        description: fn.description,
        public: fn.isPublic,
        group: fn.groupId,
        created_at: fn.createdAt.toISOString(),
        code_sha256: query.code_sha256,
      })),
    }),
  });
}
