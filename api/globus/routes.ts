import type { ApiDeps } from '../deps';
import type { Route } from '../route';
import { coreEndpointRoutes } from './core-endpoints';
import { endpointRoutes } from './endpoints';
import { functionRoutes } from './functions';
import { resultsConnectionRoutes } from './results-connection';
import { submitRoutes } from './submit';
import { taskRoutes } from './tasks';

/** Routes for Globus Compute 4 clients (globus-sdk 4: `globus_sdk/services/compute/client.py`). */
export const globusRoutes = (deps: ApiDeps): Route[] => [
  ...functionRoutes(deps),
  ...coreEndpointRoutes(deps),
  ...endpointRoutes(deps),
  ...submitRoutes(deps),
  ...taskRoutes(deps),
  ...resultsConnectionRoutes(deps),
];
