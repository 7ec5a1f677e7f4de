import { auditListSchema, auditQuerySchema } from '../../contracts/http/v1-identities';
import { listAuditEntries } from '../../platform/store/audit';
import type { ApiDeps } from '../deps';
import { route, type Route } from '../route';

export function auditRoute({ db, audit }: ApiDeps): Route {
  return route({
    method: 'get',
    path: '/v1/audit',
    summary: 'Lists who changed what, and what was refused, newest first',
    access: 'admin',
    query: auditQuerySchema,
    response: auditListSchema,
    handle: async ({ query }) => {
      await audit.flush(); // include the entries that this process has not stored yet
      return { entries: await listAuditEntries(db, query) };
    },
  });
}
