/**
 * Spares callers the wait for an engine that does not answer. After a number of consecutive outages, the circuit is open: calls
 * fail immediately, except for one call every `retryMs`. If this call succeeds, the circuit is closed again.
 */

/** Thrown while the circuit is open: the engine did not answer a moment ago, and the call was not sent. */
export class CircuitOpenError extends Error {
  constructor(engine: string) {
    super(`${engine} does not answer; the call was not made`);
    this.name = 'CircuitOpenError';
  }
}

export interface CircuitOptions {
  engine: string;
  /** Number of consecutive outages that opens the circuit. */
  outages: number;
  retryMs: number;
  /** Whether an error means that the engine is unavailable. Other errors count as an answer. */
  isOutage: (error: unknown) => boolean;
}

export type Circuit = <T>(call: () => Promise<T>) => Promise<T>;

export function createCircuit({ engine, outages, retryMs, isOutage }: CircuitOptions, now: () => number = Date.now): Circuit {
  let failures = 0;
  let nextTryMs = 0;

  return async (call) => {
    if (failures >= outages) {
      if (now() < nextTryMs) throw new CircuitOpenError(engine);
      nextTryMs = now() + retryMs;
    }
    try {
      const result = await call();
      failures = 0;
      return result;
    } catch (error) {
      if (isOutage(error)) {
        failures++;
        nextTryMs = now() + retryMs;
      } else {
        failures = 0;
      }
      throw error;
    }
  };
}
