import { z } from 'zod';

import { TerminalError } from '../contracts/errors';
import { policySchema, type Policy } from '../contracts/policy';
import { decide, denial, type Identity } from '../platform/access';
import type { SubmitTarget } from '../platform/store/endpoints';
import { requireReadableCode, requireReadableData } from './readable';
import type { AcceptedCalls } from './accept-request';
import type { PlacedRequest, Placement } from './placement';

/** The checks that every way to submit makes before it calls `accept`. */

/** Our key in a resource specification, the only place where stock clients can set options of this service. */
const OUR_KEY = 'funcx';

/** Takes our part out of a resource specification. The specification is undefined if nothing is left for the endpoint. */
export function splitSpecification(given: Record<string, unknown> | null | undefined): {
  specification: Record<string, unknown> | undefined;
  policy: Policy;
} {
  const { [OUR_KEY]: ours, ...rest } = given ?? {};
  const specification = Object.keys(rest).length === 0 ? undefined : rest;
  if (ours === undefined) return { specification, policy: {} };
  const parsed = policySchema.safeParse(ours);
  if (!parsed.success) {
    throw new TerminalError(
      'INVALID_REQUEST',
      `body field "resource_specification.${OUR_KEY}" is not well formed: ${z.prettifyError(parsed.error)}`,
      { cause: parsed.error },
    );
  }
  return { specification, policy: parsed.data };
}

export interface CheckedTarget {
  /** The policies of the functions, overridden by the policy of the request. */
  policy: Policy;
  /** What the accept needs to know about a function. */
  describe: (functionId: string) => Pick<AcceptedCalls, 'functionId' | 'functionName' | 'codeBytes'>;
}

export function checkTarget(
  identity: Identity,
  target: SubmitTarget,
  functionIds: readonly string[],
  requested: Policy,
): CheckedTarget {
  const decision = decide(identity, 'use', { ...target, kind: 'endpoint' });
  if (decision !== 'allow') {
    throw new TerminalError(decision.deny, denial('endpoint', target.id, 'use'), {
      subject: { kind: 'endpoint', ids: [target.id] },
    });
  }
  const functions = new Map(target.functions.map((fn) => [fn.id, fn]));
  let policy: Policy = {};
  for (const id of functionIds) {
    const fn = functions.get(id);
    const subject = { kind: 'function', ids: [id] } as const;
    if (!fn) {
      const text = `function ${id} is not registered, or was deleted; register it first`;
      throw new TerminalError('FUNCTION_NOT_FOUND', text, { subject });
    }
    const allowed = decide(identity, 'use', { ...fn, kind: 'function' });
    if (allowed !== 'allow') throw new TerminalError(allowed.deny, denial('function', id, 'use'), { subject });
    if (target.allowedFunctions && !target.allowedFunctions.includes(id)) {
      throw new TerminalError(
        'FORBIDDEN',
        `function ${id} is not permitted on endpoint ${target.id}; its owner allows only certain functions`,
        { subject: { kind: 'permission', ids: [id, target.id] } },
      );
    }
    if (target.kind === 'funcx-1.0') requireReadableCode(fn.codeStart, fn.sdkVersion, `the code of function ${id}`, target.id);
    policy = { ...policy, ...fn.policy };
  }
  return {
    policy: { ...policy, ...requested },
    describe(functionId) {
      const { name, codeBytes } = functions.get(functionId)!; // checked above
      return { functionId, functionName: name, codeBytes };
    },
  };
}

/** Returns the endpoint queue: the target's own, or that of the submitter's user endpoint. Call `wake` after accept. */
export async function placeTasks(
  placement: Placement,
  target: SubmitTarget,
  request: Omit<PlacedRequest, 'endpointId'>,
): Promise<{ endpointQueueId: string; wake: () => void }> {
  switch (target.kind) {
    case 'agent':
    case 'funcx-1.0':
      return { endpointQueueId: target.id, wake: () => undefined };
    case 'globus': {
      const endpointQueueId = await placement.place({ ...request, endpointId: target.id });
      return { endpointQueueId, wake: () => placement.wake(endpointQueueId) };
    }
  }
}

/** Throws if the endpoint's agent cannot read the arguments as they are serialized. */
export function checkPayloads(target: SubmitTarget, payloads: readonly string[]): void {
  if (target.kind !== 'funcx-1.0') return;
  payloads.forEach((payload, index) => requireReadableData(payload.slice(0, 16), `the payload of task ${index + 1}`, target.id));
}

/** Throws for a resource specification that the endpoint would ignore: tasks would run with other resources than requested. */
export function checkSpecification(target: SubmitTarget, specification: Record<string, unknown> | undefined): void {
  if (specification === undefined || target.kind === 'globus') return;
  throw new TerminalError(
    'INVALID_REQUEST',
    `endpoint ${target.name} (${target.id}) does not read a resource specification (${Object.keys(specification).join(', ').slice(0, 200)}): ` +
      'it runs each call in one worker process on one machine. Submit without a resource specification, or to a Globus ' +
      'Compute endpoint with GlobusMPIEngine.',
    { subject: { kind: 'endpoint', ids: [target.id] } },
  );
}
