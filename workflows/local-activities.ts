import {
  CancellationScope,
  condition,
  proxyLocalActivities,
  type ActivityInterfaceFor,
  type LocalActivityOptions,
} from '@temporalio/workflow';

/**
 * Local activities of workflows that do several things at once. On replay, the result of a local activity that outlasted a
 * workflow task comes together with the events that came before it, and the promises of both continue in an order of their own
 * (sdk-typescript issue 1744). Then the workflow asks for other things than its history has, and is stuck for ever. So a result
 * waits here until everything else that came with it has been dealt with, and results follow one another as they came.
 */
export function proxyLocalActivitiesInOrder<A extends object>(options: LocalActivityOptions): ActivityInterfaceFor<A> {
  const local = proxyLocalActivities(options);
  return new Proxy({} as ActivityInterfaceFor<A>, {
    get:
      (_, name: string) =>
      async (...args: unknown[]): Promise<unknown> => {
        try {
          return await local[name]!(...args); // a proxy knows every name
        } finally {
          await CancellationScope.nonCancellable(lastOfAll);
        }
      },
  });
}

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
