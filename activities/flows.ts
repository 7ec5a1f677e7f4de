import type { FlowActivities } from '../contracts/flow-steps';
import type { AcceptingDeps } from './accept-calls';
import { createCallActivities } from './calls';
import type { ActivityDeps } from './deps';
import { createFlowActionActivities } from './flow-actions';
import { createFlowLineActivities } from './flow-lines';

/** What the workflows of runs of flows do. */
export function createFlowActivities(deps: ActivityDeps & AcceptingDeps): FlowActivities {
  const { noteStarted, observeCall } = createCallActivities(deps);
  return { ...createFlowLineActivities(deps), ...createFlowActionActivities(deps), noteStarted, observeCall };
}
