import { createContext, Script } from 'node:vm';

import type { ErrorObject, ValidateFunction } from 'ajv';

import { compileSchema, pathOf, schemaProblems as findProblems } from '../../flows/input-schema';
import { FlowsError, type FlowsErrorDetail } from './errors';

/** Checks inputs of runs. Every step is bounded in time, because any user may write a schema. */

const MAX_MS = 1_000;
/** Compiling runs no pattern of the author, but a busy machine may need more than a second. */
const MAX_COMPILE_MS = 5_000;
const MAX_SHOWN = 20;
const MAX_CACHED = 200;

const compiled = new Map<string, ValidateFunction>();

/** A pattern of the author may backtrack for hours; the watchdog of `vm` interrupts it. */
const bounded = createContext({ run: undefined as (() => unknown) | undefined });
const call = new Script('run()');
function within<T>(run: () => T, ms = MAX_MS): T {
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
  const validate = within(() => compileSchema(schema), MAX_COMPILE_MS);
  if (compiled.size >= MAX_CACHED) compiled.clear();
  compiled.set(text, validate);
  return validate;
}

/** What is wrong with the schema itself. */
export const schemaProblems = (schema: unknown): FlowsErrorDetail[] => findProblems(schema, compile);

/** Throws FLOW_INPUT_ERROR with each mistake at its path. */
export function checkInput(schema: unknown, input: unknown): void {
  let validate: ValidateFunction;
  let isValid: boolean;
  try {
    validate = compile(schema as object | boolean); // checked when the flow was created, so it only fails by its time
    isValid = within<boolean>(() => validate(input));
  } catch {
    const msg = `the check against the input schema took longer than ${MAX_MS} ms; simplify the schema's patterns`;
    throw new FlowsError('FLOW_INPUT_ERROR', [{ loc: ['$'], msg, type: 'InvalidActionInput' }], msg);
  }
  if (isValid) return;
  const errors = validate.errors ?? [];
  const message = `Input failed schema validation with ${errors.length} error${errors.length === 1 ? '' : 's'}.`;
  throw new FlowsError('FLOW_INPUT_ERROR', errors.slice(0, MAX_SHOWN).map(detailOf), message);
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
