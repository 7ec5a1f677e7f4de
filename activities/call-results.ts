import { createHash } from 'node:crypto';

import { REFERENCE_KEY, type CallFailure, type ReferenceDocument } from '../contracts/calls';
import { raisedException } from '../contracts/exceptions';
import type { CallResults } from '../contracts/activities';
import { submissionIdOf } from '../contracts/ids';
import { isExactInJavaScript } from '../contracts/json-text';
import { BUFFER, JSON_RESULT_SERIALIZER } from '../contracts/packing';
import type { Database } from '../platform/store/database';
import { readOutcomes, type OutcomeRow } from '../platform/store/pipelines';

/** Turns stored answers into the results of a pipeline call: small JSON values inline, all others as references. */

const PYTHON_RESULT_SERIALIZER = 'globus_compute_sdk.serialize.DillDataBase64';
/** The agent tries the serializers in this order and uses the first that can hold the value. */
export const RESULT_SERIALIZERS = {
  auto: [JSON_RESULT_SERIALIZER, PYTHON_RESULT_SERIALIZER],
  reference: [PYTHON_RESULT_SERIALIZER],
};

/** A larger value becomes a reference. */
const MAX_VALUE_BYTES = 100_000;
/** Limit for all inline values of a map together. Later values are references, unless the value is smaller than a reference. */
const MAX_VALUES_BYTES = 100_000;
const REFERENCE_BYTES = 200;
const MAX_FAILURES = 100;
const MAX_TRACEBACKS_CHARS = 200_000;
const MAX_LAST_LINE_CHARS = 200;

export interface ReadOptions {
  /** Limit for all inline values together, and for each of them. */
  maxInlineBytes?: number;
  /** Parses a value. Default: `JSON.parse`, which turns 1.0 into the number 1. */
  parse?: (text: string) => unknown;
  /** True: failures beyond the limits are included with the last line of their text. Default: they are only counted. */
  keepsAllFailures?: boolean;
}

/** `taskIds` has the task of each value. An open task has no entry. */
export async function readCallResults(
  db: Database,
  submissionIds: readonly string[],
  { maxInlineBytes = MAX_VALUES_BYTES, parse = JSON.parse, keepsAllFailures = false }: ReadOptions = {},
): Promise<{ taskIds: string[]; results: CallResults }> {
  const rows = await readOutcomes(db, submissionIds, Math.min(MAX_VALUE_BYTES, Math.max(maxInlineBytes, REFERENCE_BYTES)));
  const values: unknown[] = [];
  const failures: CallFailure[] = [];
  let failed = 0;
  let bytes = 0;
  let chars = 0;
  rows.forEach((row, index) => {
    if (row.succeeded) {
      // NaN and integers beyond 2^53 would not reach every pipeline unchanged, so such values become references.
      const inline = row.json !== null && (row.size <= REFERENCE_BYTES || bytes + row.size <= maxInlineBytes);
      const value = inline && row.json !== null && isExactInJavaScript(row.json) ? { json: parse(row.json) } : undefined;
      if (value) bytes += row.size;
      values.push(value ? value.json : referenceTo(row));
      return;
    }
    values.push(null);
    failed++;
    const isBeyondLimits = failures.length >= MAX_FAILURES || chars > MAX_TRACEBACKS_CHARS;
    if (isBeyondLimits && !keepsAllFailures) return;
    const failure = failureOf(row, index);
    if (isBeyondLimits) failure.traceback = lastLineOf(failure.traceback);
    chars += failure.traceback.length;
    failures.push(failure);
  });
  return { taskIds: rows.map(({ id }) => id), results: { values, failures, failed } };
}

const lastLineOf = (text: string): string => (text.trimEnd().split('\n').at(-1) ?? '').slice(0, MAX_LAST_LINE_CHARS);

function failureOf(row: OutcomeRow, index: number): CallFailure {
  const traceback = row.text ?? '';
  const exception = raisedException(row.details, traceback)?.name;
  return {
    index,
    taskId: row.id,
    submissionId: submissionIdOf(row.id),
    code: row.code ?? 'unknown',
    exception,
    traceback,
  };
}

function referenceTo(row: OutcomeRow): ReferenceDocument {
  const sha256 =
    row.sha256 ??
    createHash('sha256')
      .update(`${BUFFER.json}\n${row.json ?? ''}`)
      .digest('hex');
  return { [REFERENCE_KEY]: 'ref', taskId: row.id, size: row.size, hash: `sha256:${sha256}` };
}
