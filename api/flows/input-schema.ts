import { createContext, Script } from 'node:vm';

import Ajv, { type ErrorObject, type ValidateFunction } from 'ajv';
import Ajv2019 from 'ajv/dist/2019';
import Ajv2020 from 'ajv/dist/2020';
import addFormats from 'ajv-formats';

import { FlowsError, type FlowsErrorDetail } from './errors';

/** The input schema of a flow: JSON Schema as its author wrote it, so every step is bounded in time. */

const MAX_MS = 1_000;
const MAX_SCHEMA_CHARS = 256_000;
const MAX_SHOWN = 20;
const MAX_CACHED = 200;

const DIALECTS: readonly [piece: string, dialect: typeof Ajv][] = [
  ['2020-12', Ajv2020],
  ['2019-09', Ajv2019],
];

const compiled = new Map<string, ValidateFunction>();

/** A pattern of the author may backtrack for hours; the watchdog of `vm` interrupts it. */
const bounded = createContext({ run: undefined as (() => unknown) | undefined });
const call = new Script('run()');
function within<T>(run: () => T): T {
  bounded.run = run;
  try {
    return call.runInContext(bounded, { timeout: MAX_MS }) as T;
  } finally {
    bounded.run = undefined;
  }
}

function compile(schema: unknown): ValidateFunction {
  const text = JSON.stringify(schema);
  const known = compiled.get(text);
  if (known) return known;
  if (text.length > MAX_SCHEMA_CHARS)
    throw new Error(`the schema has ${text.length} characters, the limit is ${MAX_SCHEMA_CHARS}`);
  const dialect = (schema as { $schema?: unknown } | null)?.$schema;
  const [, Dialect] = DIALECTS.find(([piece]) => typeof dialect === 'string' && dialect.includes(piece)) ?? ['', Ajv];
  // Formats of the web application, such as globus-collection, are unknown here and not checked.
  const ajv = new Dialect({ allErrors: true, strict: false, logger: false, validateFormats: true, addUsedSchema: false });
  addFormats(ajv);
  // The meta schema of an older or unknown dialect is not at hand; its keywords are the same but for details.
  const { $schema: _dialect, ...rest } = typeof schema === 'object' && schema !== null ? (schema as Record<string, unknown>) : {};
  const own = DIALECTS.some(([piece]) => typeof dialect === 'string' && dialect.includes(piece)) || typeof schema !== 'object';
  const validate = within(() => ajv.compile((own ? schema : rest) as object | boolean));
  if (compiled.size >= MAX_CACHED) compiled.clear();
  compiled.set(text, validate);
  return validate;
}

/** What is wrong with the schema itself. */
export function schemaProblems(schema: unknown): FlowsErrorDetail[] {
  if (typeof schema === 'object' && schema !== null ? Array.isArray(schema) : typeof schema !== 'boolean')
    return [{ loc: ['input_schema'], msg: 'a schema is a JSON object', type: 'type_error' }];
  try {
    compile(schema);
    return [];
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return [{ loc: ['input_schema'], msg: `this is not a JSON Schema: ${reason}`, type: 'value_error' }];
  }
}

/** Throws FLOW_INPUT_ERROR with each mistake at its path. */
export function checkInput(schema: unknown, input: unknown): void {
  const validate = compile(schema);
  let isValid: boolean;
  try {
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
  const path = instancePath
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part) => (/^\d+$/.test(part) ? `[${part}]` : `.${part}`))
    .join('');
  const extra =
    keyword === 'additionalProperties' ? `: ${String((params as { additionalProperty: string }).additionalProperty)}` : '';
  const allowed = keyword === 'enum' ? `: ${JSON.stringify((params as { allowedValues: unknown[] }).allowedValues)}` : '';
  return { loc: [`$${path}`], msg: `${message ?? 'is not valid'}${extra}${allowed}`, type: 'InvalidActionInput' };
}
