export { createCallActivities } from './calls';
export { createEndpointActivities } from './endpoint';
export { createSubmissionActivities } from './submission';
export type { ActivityDeps } from './deps';
