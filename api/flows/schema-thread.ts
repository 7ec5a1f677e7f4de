import { createContext, Script } from 'node:vm';
import { parentPort } from 'node:worker_threads';

import type { ErrorObject, ValidateFunction } from 'ajv';

import { compileSchema, pathOf, schemaProblems } from '../../flows/input-schema';
import type { FlowsErrorDetail } from './errors';
import { MAX_COMPILE_MS, MAX_MS, type SchemaAnswer, type SchemaJob } from './schema-jobs';

/** The program of a thread that works with the schemas of authors. It keeps compiled schemas. */

const MAX_SHOWN = 20;
const MAX_CACHED = 200;
/** Of the texts of the cached schemas. A compiled schema takes many times the memory of its text. */
const MAX_CACHED_CHARS = 1_000_000;

const compiled = new Map<string, ValidateFunction>();
let cachedChars = 0;

/** A pattern of the author may backtrack for hours; the watchdog of `vm` interrupts it, and the thread goes on. */
const bounded = createContext({ run: undefined as (() => unknown) | undefined });
const call = new Script('run()');
function within<T>(ms: number, run: () => T): T {
  bounded.run = run;
  try {
    return call.runInContext(bounded, { timeout: ms }) as T;
  } finally {
    bounded.run = undefined;
  }
}

function compile(schema: object | boolean): ValidateFunction {
  const text = JSON.stringify(schema);
  const known = compiled.get(text);
  if (known) return known;
  const validate = compileSchema(schema);
  if (compiled.size >= MAX_CACHED || cachedChars + text.length > MAX_CACHED_CHARS) {
    compiled.clear();
    cachedChars = 0;
  }
  cachedChars += text.length;
  compiled.set(text, validate);
  return validate;
}

function answerTo(job: SchemaJob): SchemaAnswer {
  try {
    if (job.kind === 'schema') return { details: within(MAX_COMPILE_MS, () => schemaProblems(job.schema, compile)), count: 0 };
    // The schema was checked when the flow was created, so it only fails by its time.
    const validate = within(MAX_COMPILE_MS, () => compile(job.schema as object | boolean));
    if (within(MAX_MS, () => validate(job.input))) return { details: [], count: 0 };
    const errors = validate.errors ?? [];
    return { details: errors.slice(0, MAX_SHOWN).map(detailOf), count: errors.length };
  } catch {
    return 'late';
  }
}

function detailOf({ instancePath, message, params, keyword }: ErrorObject): FlowsErrorDetail {
  const path = pathOf(instancePath)
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`))
    .join('');
  const extra =
    keyword === 'additionalProperties' ? `: ${String((params as { additionalProperty: string }).additionalProperty)}` : '';
  const allowed = keyword === 'enum' ? `: ${JSON.stringify((params as { allowedValues: unknown[] }).allowedValues)}` : '';
  return { loc: [`$${path}`], msg: `${message ?? 'is not valid'}${extra}${allowed}`, type: 'InvalidActionInput' };
}

parentPort?.on('message', (job: SchemaJob) => parentPort?.postMessage(answerTo(job)));
