import { randomUUID } from 'node:crypto';

import type { Request, Response } from 'express';

import { TerminalError } from '../../contracts/errors';
import type { StartRun } from '../../contracts/http/flows';
import type { Identity } from '../../platform/access';
import { failPoint } from '../../platform/fail-points';
import { findRun, insertRun, type RunRow } from '../../platform/store/flow-runs';
import type { FlowRow } from '../../platform/store/flows';
import type { ApiDeps } from '../deps';
import { bodyHashOf } from '../middleware/read-body';
import { findMadeEarlier } from '../same-id';
import { withoutPrivateKeys } from './documents';

/**
 * Stores the run in one transaction, starts its workflow, then returns the run. A stored run is accepted: if Temporal does not
 * take the start, the caller still gets the run, and the sweep of `workers` starts it. After the transaction, nothing may throw:
 * clients repeat a request that failed, and the repeat would be another run.
 */

const MAX_LABEL_CHARS = 64;
/** A run stores its input several times. One of more than a million characters would fail in the first state. */
const MAX_INPUT_BYTES = 4_000_000;

export async function startRun(
  { db, repeats, flowStarts, quotas }: Pick<ApiDeps, 'db' | 'repeats' | 'flowStarts' | 'quotas'>,
  { identity, req, res }: { identity: Identity; req: Request; res: Response },
  flow: FlowRow,
  body: StartRun,
): Promise<RunRow> {
  // Two equal requests start two runs, unless the response to the first was never written: then the second is a retry.
  const earlier = await findMadeEarlier({ repeats }, { identity, req, res }, ({ run_id: id }: { run_id: string }) =>
    findRun(db, id),
  );
  if (earlier) return earlier;
  const bytes = Buffer.byteLength(JSON.stringify(body.body));
  if (bytes > MAX_INPUT_BYTES) {
    const advice = 'pass data by reference, or let functions read it';
    throw new TerminalError('PAYLOAD_TOO_LARGE', `the input has ${bytes} bytes, the limit is ${MAX_INPUT_BYTES}; ${advice}`);
  }
  await quotas.requireRoomForRun(identity.id);
  const id = randomUUID();
  const bodyHash = bodyHashOf(req);
  const entry = bodyHash && repeats.entry(bodyHash);
  const request = { ownerId: identity.id, endpointId: flow.id, response: { run_id: id } };
  const row = {
    id,
    flowId: flow.id,
    flowVersion: flow.version,
    ownerId: identity.id,
    label: body.label ?? flow.title.slice(0, MAX_LABEL_CHARS),
    tags: body.tags ?? [],
    managers: body.run_managers ?? [],
    monitors: body.run_monitors ?? [],
    input: body.body,
    shownInput: withoutPrivateKeys(body.body),
  };
  const run = await repeats.store(entry, request, () => insertRun(db, row, entry && { ...entry, ...request }));
  await failPoint('flow-run-stored');
  await flowStarts.start({ runId: id, flowId: flow.id, title: flow.title, ownerId: identity.id, generation: 0 });
  await failPoint('flow-run-started');
  if (entry) await repeats.beforeAnswer(res, entry, request);
  return run;
}
