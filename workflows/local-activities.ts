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
 * Local activities are used because a round trip through the server costs more than the work itself.
 *
 * They must end long before the workflow task times out (10 s). If a worker gets the next workflow task of a workflow while it
 * waits for a local activity, it groups the workflow's events differently than a replay (sdk-core: "Trying to send a new WFT for
 * a run which already has one"), and the workflow is stuck forever.
 */
const LOCAL = {
  scheduleToCloseTimeout: '4 seconds',
  retry: { initialInterval: '200 milliseconds', backoffCoefficient: 2, maximumAttempts: 3 },
} as const;

/** Each step runs as a local activity and, if that does not succeed soon, as an ordinary activity with these options. */
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
      // Unwrap the failure, so that it looks like the failure of a local activity.
      throw error instanceof ActivityFailure && error.cause instanceof ApplicationFailure ? error.cause : error;
    }
  });
}

/**
 * Each step runs only as a local activity. On replay, the result of a local activity that outlasted a workflow task arrives
 * together with the events that came before it, and the promises of both resume in a different order (sdk-typescript issue 1744).
 * The commands of the workflow would then not match its history. A result therefore waits here until everything else that arrived
 * with it is processed, and results resume in the order of their arrival.
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

function proxyOf<A extends object>(run: (name: string, args: unknown[]) => Promise<unknown>): ActivityInterfaceFor<A> {
  return new Proxy({} as ActivityInterfaceFor<A>, {
    get:
      (_, name: string) =>
      (...args: unknown[]): Promise<unknown> =>
        run(name, args),
  });
}

/** True if the step failed with a non-retryable error. The failure of a local activity is not wrapped. */
const isFinal = (error: unknown): boolean => error instanceof ApplicationFailure && error.nonRetryable === true;

/** Two rounds, because a workflow whose condition an event made true may then wait for another condition. */
const ROUNDS = 2;
/** The waiting results of this workflow: the SDK gives each workflow its own copy of this module. */
const results: symbol[] = [];

/** Resolves after everything else: the SDK evaluates conditions when no promise can make progress. */
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
