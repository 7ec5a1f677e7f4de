import { randomUUID } from 'node:crypto';

import type { Database } from '../../platform/store/database';
import { insertRun, type NewRun } from '../../platform/store/flow-runs';
import { insertFlow, type FlowRow } from '../../platform/store/flows';

/** Stores a flow of two `Pass` states that only its owner may see, unless `extra` says otherwise. */
export const makeFlow = (db: Database, ownerId: string, extra: Partial<FlowRow> = {}): Promise<FlowRow> =>
  insertFlow(db, {
    id: randomUUID(),
    ownerId,
    title: 'a flow',
    subtitle: '',
    description: '',
    keywords: [],
    subscriptionId: null,
    viewers: [],
    starters: [],
    administrators: [],
    runManagers: [],
    runMonitors: [],
    definition: { StartAt: 'B', States: { B: { Type: 'Pass', Next: 'A' }, A: { Type: 'Pass', End: true } } },
    inputSchema: {},
    ...extra,
  });

/** Stores a run of `flow`, without its workflow, and returns its ID. */
export async function makeRun(db: Database, flow: FlowRow, ownerId: string, extra: Partial<NewRun> = {}): Promise<string> {
  const id = randomUUID();
  await insertRun(db, {
    id,
    flowId: flow.id,
    flowVersion: flow.version,
    ownerId,
    label: '',
    tags: [],
    managers: [],
    monitors: [],
    input: {},
    shownInput: {},
    ...extra,
  });
  return id;
}
