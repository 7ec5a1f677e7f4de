export { createCallActivities } from './calls';
export { createEndpointActivities } from './endpoint';
export { createFlowActivities } from './flows';
export { createSubmissionActivities } from './submission';
export type { AcceptingDeps } from './accept-calls';
export type { ActivityDeps } from './deps';
export { createScheduleActivities } from './flow-schedules';
