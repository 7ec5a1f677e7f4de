/** The interface between the slots and the three ways to run functions. */

export const FUNCTION_KINDS = ['python', 'javascript', 'shell'] as const;
export type FunctionKind = (typeof FUNCTION_KINDS)[number];

/** The key of the endpoint's owner; other owners have keys that the service makes. */
export const OWN = 'own';

/** One call, as a runner needs it. */
export interface Call {
  taskId: string;
  /** Whose call it is: {@link OWN}, or the opaque key of another owner. A worker serves one owner. */
  owner: string;
  /** Packed code, arguments, keyword arguments. */
  buffer: string;
  /** Class paths of Globus serialization strategies, tried in order. Python only. */
  resultSerializers?: string[];
  /** Serialized characters that a result may have at most. */
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
  /** Where the call ran: versions, operating system. */
  details?: Record<string, unknown>;
  /** The process died under the call: by itself, or because of `stop`. */
  isLost?: boolean;
  /** SIGINT reached the worker while the function ran: from the function itself, or together with the agent. */
  isInterrupted?: boolean;
  /** Why no worker process could run the call. The task was not touched. */
  cannotStart?: string;
}

/**
 * What a call would cost now.
 *
 * | value | meaning |
 * |---|---|
 * | `ready` | a worker of its owner rests, or one that serves nobody is there for it |
 * | `start` | a worker must start, for this call or in the place of the one that it takes |
 * | `crowded` | all workers of its owner are busy, and one more would push out the worker of another owner |
 */
export type Readiness = 'ready' | 'start' | 'crowded';

/** Runs one call at a time. */
export interface Runner {
  /** Never rejects: every failure is an outcome. */
  run(call: Call): Promise<Outcome>;
  readinessFor(owner: string): Readiness;
  /** Begins to start a worker for this owner, where that takes time. */
  prepareFor(owner: string): void;
  /** Starts a worker before the first call needs it, where that takes time. */
  warm(): void;
  /** Why no worker can be started, or undefined when one is ready. */
  whyNotReady(): Promise<string | undefined>;
  /** Ends the process of the running call and all its children: SIGTERM, then SIGKILL. The call's outcome is lost. */
  stop(): void;
  /** Ends everything for good. Resolves when no process is left. */
  close(graceMs: number): Promise<void>;
}

/** Unix nanoseconds; a number is exact to about 200 ns there, which is finer than its clock. */
export const nowNs = (): number => Date.now() * 1e6;

/** Where a function of this task buffer runs, by the identifier of its first packed buffer. */
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

/** An answer that the agent makes in the function's place. */
export function failure(code: string, sentence: string, startedNs = nowNs()): Outcome {
  return { data: sentence, error: { code, userMessage: sentence }, startedNs, endedNs: nowNs() };
}
