/** The workflows that the service's Temporal workers run; what is exported here is bundled. */
export { funcxCall, funcxMap } from './calls';
export { endpoint } from './endpoint';
export { flowMap } from './flow-map';
export { flowLine, flowRun } from './flow-run';
export { submission } from './submission';
export { flowSchedule } from './flow-schedule';
