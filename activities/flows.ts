import type { FlowActivities } from '../contracts/flow-steps';
import { listedNetworks } from '../platform/networks';
import { createOutgoingHttp } from '../platform/outgoing-http';
import type { AcceptingDeps } from './accept-calls';
import { createCallActivities } from './calls';
import type { ActivityDeps } from './deps';
import { createFlowActionActivities } from './flow-actions';
import { createFlowHttpActivities } from './flow-http';
import { createFlowLineActivities } from './flow-lines';

/** The activities of the workflows of flow runs. */
export function createFlowActivities(deps: ActivityDeps & AcceptingDeps): FlowActivities {
  const { noteStarted, observeCall } = createCallActivities(deps);
  const outgoing = createOutgoingHttp(listedNetworks(deps.config.FUNCX_FLOWS_HTTP_ALLOW));
  return {
    ...createFlowLineActivities(deps),
    ...createFlowActionActivities(deps),
    ...createFlowHttpActivities({ db: deps.db, outgoing }),
    noteStarted,
    observeCall,
  };
}
