export { createCallActivities } from './calls';
export { createEndpointActivities } from './endpoint';
export { createSubmissionActivities } from './submission';
export type { AcceptedSubmissions } from './accept-calls';
export type { AcceptedCall, CallActivities, CallState } from './calls';
export type { ActivityDeps } from './deps';
export type { EndpointActivities } from './endpoint';
export type { SubmissionActivities, SubmissionRef } from './submission';
