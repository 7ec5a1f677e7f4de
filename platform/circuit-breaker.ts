/**
 * Spares callers the wait for an engine that does not answer. After some outages in a row the circuit is open: calls fail at
 * once, except one that tries again each `retryMs`. Its success closes the circuit.
 */

/** The engine did not answer a moment ago; nothing was sent. */
export class CircuitOpenError extends Error {
  constructor(engine: string) {
    super(`${engine} does not answer; the call was not made`);
    this.name = 'CircuitOpenError';
  }
}

export interface CircuitOptions {
  engine: string;
  /** Outages in a row that open the circuit. */
  outages: number;
  retryMs: number;
  /** Errors that say nothing about the engine do not count. */
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
