import { route, type Route } from '../route';

/** A route whose errors have the format of Globus Flows. */
export const flowsRoute: typeof route = (spec): Route => ({ ...route({ bodySize: 'large', ...spec }), wire: 'flows' });
