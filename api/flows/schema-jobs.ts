import type { FlowsErrorDetail } from './errors';

/** What the API asks of a thread that works with schemas, and its answers. */

export const MAX_MS = 1_000;
/** Compiling runs no pattern of the author, but a busy machine may need more than a second. */
export const MAX_COMPILE_MS = 5_000;

export type SchemaJob = { kind: 'schema'; schema: unknown } | { kind: 'input'; schema: unknown; input: unknown };

/** The first mistakes, and for an input the number of all. `late`: there was not enough time, or memory. */
export type SchemaAnswer = { details: FlowsErrorDetail[]; count: number } | 'late';
