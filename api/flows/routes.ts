import type { ApiDeps } from '../deps';
import type { Route } from '../route';
import { absentRoutes } from './absent';
import { flowRoutes } from './flows';
import { runRoutes } from './runs';

/** The interface of Globus Flows. */
export const flowsRoutes = (deps: ApiDeps): Route[] => [...flowRoutes(deps), ...runRoutes(deps), ...absentRoutes()];
