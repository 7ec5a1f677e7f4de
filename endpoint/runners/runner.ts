/** The interface between the slots and the runners of the three kinds of functions. */

export const FUNCTION_KINDS = ['python', 'javascript', 'shell'] as const;
export type FunctionKind = (typeof FUNCTION_KINDS)[number];

/** The key of the endpoint's owner. The service makes the keys of other owners. */
export const OWN = 'own';

export interface Call {
  taskId: string;
  /** The owner of the call: {@link OWN}, or the opaque key of another owner. A worker serves one owner. */
  owner: string;
  /** Packed code, arguments, keyword arguments. */
  buffer: string;
  /** Class paths of Globus serialization strategies, tried in order. Python only. */
  resultSerializers?: string[];
  /** Maximum number of serialized characters of a result. */
  maxResultChars: number;
}

export interface Outcome {
  /** The serialized result, or the text of the failure. */
  data: string;
  error?: { code: string; userMessage: string; classes?: string[] };
  /** Exit code of a shell function that failed. */
  exitCode?: number;
  startedNs: number;
  endedNs: number;
  /** Details of the run, such as versions, operating system and output. */
  details?: Record<string, unknown>;
  /** True if the process ended during the call, on its own or because of `stop`. */
  isLost?: boolean;
  /** True if the worker got SIGINT while the function ran: from the function, or together with the agent. */
  isInterrupted?: boolean;
  /** Why no worker process could run the call. The function was not started. */
  cannotStart?: string;
}

/**
 * What a call would need now.
 *
 * | value | meaning |
 * |---|---|
 * | `ready` | an idle worker of the owner, or a worker without an owner, can run the call |
 * | `start` | a worker must start, for this call or to replace the worker that it takes |
 * | `crowded` | all workers of the owner are busy, and another worker would end the worker of another owner |
 */
export type Readiness = 'ready' | 'start' | 'crowded';

/** Runs one call at a time. */
export interface Runner {
  /** Never rejects: every failure is an outcome. */
  run(call: Call): Promise<Outcome>;
  readinessFor(owner: string): Readiness;
  /** Begins to start a worker for this owner, if a start takes time. */
  prepareFor(owner: string): void;
  /** Starts workers before the first call needs them, if a start takes time. */
  warm(): void;
  /** Resolves to the reason why no worker can be started, or to undefined when a worker is ready. */
  whyNotReady(): Promise<string | undefined>;
  /** Ends the process of the running call and all its children: SIGTERM, then SIGKILL. The call is lost. */
  stop(): void;
  /** Ends all processes permanently. Resolves when they have ended. */
  close(graceMs: number): Promise<void>;
}

/** Unix time in nanoseconds. A number is exact to about 200 ns at this size, which is finer than the clock in milliseconds. */
export const nowNs = (): number => Date.now() * 1e6;

/** Returns the kind of the function in a task buffer, by the identifier of the first packed buffer. */
export function kindOf(buffer: string): FunctionKind {
  const newline = buffer.indexOf('\n');
  switch (buffer.slice(newline + 1, newline + 4)) {
    case 'js\n':
      return 'javascript';
    case 'sh\n':
      return 'shell';
    default:
      return 'python';
  }
}

/** Creates a failure that the agent reports in place of a result of the function. */
export function failure(code: string, sentence: string, startedNs = nowNs()): Outcome {
  return { data: sentence, error: { code, userMessage: sentence }, startedNs, endedNs: nowNs() };
}
