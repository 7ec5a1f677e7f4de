import type { ApiDeps } from '../deps';
import type { Route } from '../route';
import { agentRoutes } from './agents';
import { auditRoute } from './audit';
import { codecRoute } from './codec';
import { deadLetterRoutes } from './dead-letters';
import { enrolmentRoutes } from './enrolment';
import { endpointStateRoute } from './endpoint-state';
import { functionListRoute } from './functions';
import { groupRoutes } from './groups';
import { identityRoutes } from './identities';
import { limitRoute } from './limits';
import { pipelineRoutes } from './pipelines';
import { scheduleRoutes } from './schedules';
import { submissionRoutes } from './submissions';
import { taskGroupRoutes } from './task-groups';
import { taskRoutes } from './tasks';
import { tokenRoutes } from './tokens';

/** Routes of our own interface. */
export const v1Routes = (deps: ApiDeps): Route[] => [
  ...agentRoutes(deps),
  ...enrolmentRoutes(deps),
  ...identityRoutes(deps),
  ...tokenRoutes(deps),
  ...groupRoutes(deps),
  functionListRoute(deps),
  endpointStateRoute(deps),
  ...taskRoutes(deps),
  ...taskGroupRoutes(deps),
  ...submissionRoutes(deps),
  ...deadLetterRoutes(deps),
  ...pipelineRoutes(deps),
  ...scheduleRoutes(deps),
  limitRoute(deps),
  auditRoute(deps),
  codecRoute(deps),
];
