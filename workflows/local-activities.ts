import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  condition,
  isCancellation,
  proxyActivities,
  proxyLocalActivities,
  type ActivityInterfaceFor,
  type ActivityOptions,
} from '@temporalio/workflow';

/**
 * Local activities, because a round trip through the server costs more than the work itself.
 *
 * They end long before the workflow task times out, after 10 s. A worker that gets the next workflow task of a workflow while it
 * waits for a local activity gives the workflow its events in other portions than a replay does (sdk-core: "Trying to send a new
 * WFT for a run which already has one"), and the workflow is stuck for ever.
 */
const LOCAL = {
  scheduleToCloseTimeout: '4 seconds',
  retry: { initialInterval: '200 milliseconds', backoffCoefficient: 2, maximumAttempts: 3 },
} as const;

/** Each step runs as a local activity and, when that does not succeed soon, as an ordinary one with these options. */
export function proxySteps<A extends object>(options: ActivityOptions): ActivityInterfaceFor<A> {
  const local = proxyQuickSteps<A>() as unknown as Steps;
  const patient = proxyActivities(options) as Steps;
  return proxyOf<A>(async (name, args) => {
    try {
      return await local[name]!(...args);
    } catch (error) {
      if (isCancellation(error) || isFinal(error)) throw error;
    }
    try {
      return await patient[name]!(...args);
    } catch (error) {
      // As a local activity fails.
      throw error instanceof ActivityFailure && error.cause instanceof ApplicationFailure ? error.cause : error;
    }
  });
}

/**
 * Each step runs as a local activity only. On replay, the result of a local activity that outlasted a workflow task comes
 * together with the events that came before it, and the promises of both continue in an order of their own (sdk-typescript
 * issue 1744). Then the workflow asks for other things than its history has. So a result waits here until everything else that
 * came with it has been dealt with, and results follow one another as they came.
 */
export function proxyQuickSteps<A extends object>(): ActivityInterfaceFor<A> {
  const local = proxyLocalActivities(LOCAL) as Steps;
  return proxyOf<A>(async (name, args) => {
    try {
      return await local[name]!(...args);
    } finally {
      await CancellationScope.nonCancellable(lastOfAll);
    }
  });
}

type Steps = Record<string, (...args: unknown[]) => Promise<unknown>>;

/** A proxy knows every name. */
function proxyOf<A extends object>(run: (name: string, args: unknown[]) => Promise<unknown>): ActivityInterfaceFor<A> {
  return new Proxy({} as ActivityInterfaceFor<A>, {
    get:
      (_, name: string) =>
      (...args: unknown[]): Promise<unknown> =>
        run(name, args),
  });
}

/** The step said that repeating it does not help. The failure of a local activity is not wrapped. */
const isFinal = (error: unknown): boolean => error instanceof ApplicationFailure && error.nonRetryable === true;

/** A workflow waits for a condition that an event changed, and then may wait for another. */
const ROUNDS = 2;
/** Of this workflow: the SDK gives each its own copy of this module. */
const results: symbol[] = [];

/** Conditions are looked at when no promise has anything left to do. */
async function lastOfAll(): Promise<void> {
  const result = Symbol();
  results.push(result);
  for (let round = 0; round < ROUNDS; round++) {
    let isLater = false;
    void Promise.resolve().then(() => (isLater = true));
    await condition(() => isLater && results[0] === result);
  }
  results.shift();
}
