import { flowsVenv, FlowsUser } from '../helpers/flow-clients';
import { Http, localEndpoint } from '../helpers/system';

import { EVERY_ROUTE, runFlowsSdk } from './every-route';

/** `globus_sdk`, unmodified, through every route and every state type. */

test('the Flows client of globus_sdk gets what it expects from every route and state', async () => {
  const user = new FlowsUser(await flowsVenv());
  const double = await new Http().register('double', 'def double(n):\n    return n * 2 if isinstance(n, int) else 1 / 0');
  expect(await runFlowsSdk(user, localEndpoint(), double)).toEqual(EVERY_ROUTE);
}, 400_000);
