import { createHash } from 'node:crypto';

import { REFERENCE_KEY, type CallFailure, type ReferenceDocument } from '../contracts/calls';
import { raisedException } from '../contracts/exceptions';
import type { CallResults } from '../contracts/activities';
import { submissionIdOf } from '../contracts/ids';
import { isExactInJavaScript } from '../contracts/json-text';
import { BUFFER, JSON_RESULT_SERIALIZER } from '../contracts/packing';
import type { Database } from '../platform/store/database';
import { readOutcomes, type OutcomeRow } from '../platform/store/pipelines';

/** From stored answers to what a pipeline gets: JSON while it is small, references to everything else. */

const PYTHON_RESULT_SERIALIZER = 'globus_compute_sdk.serialize.DillDataBase64';
/** Asked of the agent in this order; the first that can hold the value is used. */
export const RESULT_SERIALIZERS = {
  auto: [JSON_RESULT_SERIALIZER, PYTHON_RESULT_SERIALIZER],
  reference: [PYTHON_RESULT_SERIALIZER],
};

/** A larger value becomes a reference. */
const MAX_VALUE_BYTES = 100_000;
/** All values of a map together; what comes after is by reference, unless a reference would be larger. */
const MAX_VALUES_BYTES = 100_000;
const REFERENCE_BYTES = 200;
const MAX_FAILURES = 100;
const MAX_TRACEBACKS_CHARS = 200_000;

export interface ReadOptions {
  /** Of all values together, and of each. */
  maxInlineBytes?: number;
  /** How a value is parsed; default: as `JSON.parse`, which makes 1.0 the number 1. */
  parse?: (text: string) => unknown;
}

export async function readCallResults(
  db: Database,
  submissionIds: readonly string[],
  { maxInlineBytes = MAX_VALUES_BYTES, parse = JSON.parse }: ReadOptions = {},
): Promise<CallResults> {
  const rows = await readOutcomes(db, submissionIds, Math.min(MAX_VALUE_BYTES, Math.max(maxInlineBytes, REFERENCE_BYTES)));
  const values: unknown[] = [];
  const failures: CallFailure[] = [];
  let failed = 0;
  let bytes = 0;
  let chars = 0;
  rows.forEach((row, index) => {
    if (row.succeeded) {
      // NaN and integers beyond 2^53 would not reach every pipeline unchanged: such a value is a reference.
      const inline = row.json !== null && (row.size <= REFERENCE_BYTES || bytes + row.size <= maxInlineBytes);
      const value = inline && row.json !== null && isExactInJavaScript(row.json) ? { json: parse(row.json) } : undefined;
      if (value) bytes += row.size;
      values.push(value ? value.json : referenceTo(row));
      return;
    }
    values.push(null);
    failed++;
    if (failures.length >= MAX_FAILURES || chars > MAX_TRACEBACKS_CHARS) return;
    const failure = failureOf(row, index);
    chars += failure.traceback.length;
    failures.push(failure);
  });
  return { values, failures, failed };
}

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
