import Ajv, { type ErrorObject, type ValidateFunction } from 'ajv';
import Ajv2019 from 'ajv/dist/2019';
import Ajv2020 from 'ajv/dist/2020';
import addFormats from 'ajv-formats';

import type { FlowProblem } from '../contracts/flows';
import { isObject } from './values';

/** The input schema of a flow: JSON Schema as its author wrote it. */

const MAX_SCHEMA_CHARS = 256_000;

const DIALECTS: readonly [piece: string, dialect: typeof Ajv][] = [
  ['2020-12', Ajv2020],
  ['2019-09', Ajv2019],
];

/** The validator of the dialect that the schema names, and the schema as this validator takes it. */
function dialectOf(schema: object | boolean): { ajv: Ajv; schema: object | boolean } {
  const name = isObject(schema) ? schema.$schema : undefined;
  const [, Dialect] = DIALECTS.find(([piece]) => typeof name === 'string' && name.includes(piece)) ?? [];
  // Formats of the web application, such as globus-collection, are unknown here and not checked.
  const options = { allErrors: true, strict: false, logger: false, validateFormats: true, addUsedSchema: false } as const;
  const ajv = new (Dialect ?? Ajv)(options);
  addFormats(ajv);
  if (Dialect !== undefined || !isObject(schema)) return { ajv, schema };
  // The meta schema of an older or unknown dialect is not at hand; its keywords differ in details only.
  const { $schema: _name, ...rest } = schema;
  return { ajv, schema: rest };
}

/** Throws for what is not a schema. */
export function compileSchema(given: object | boolean): ValidateFunction {
  const { ajv, schema } = dialectOf(given);
  return ajv.compile(schema);
}

/** Every mistake of the schema itself, each at its place below `input_schema`. */
export function schemaProblems(
  given: unknown,
  compile: (schema: object | boolean) => ValidateFunction = compileSchema,
): FlowProblem[] {
  const problem = (loc: FlowProblem['loc'], msg: string, type = 'value_error'): FlowProblem => ({
    loc: ['input_schema', ...loc],
    msg,
    type,
  });
  if (!isObject(given) && typeof given !== 'boolean') return [problem([], 'a schema is a JSON object', 'type_error')];
  const { length } = JSON.stringify(given);
  if (length > MAX_SCHEMA_CHARS) return [problem([], `the schema has ${length} characters, the limit is ${MAX_SCHEMA_CHARS}`)];
  const { ajv, schema } = dialectOf(given);
  if (ajv.validateSchema(schema) === false) {
    return [...byPlace(ajv.errors ?? [])].map(([path, messages]) =>
      problem(pathOf(path), `this is not JSON Schema: ${[...messages].join('; ')}`),
    );
  }
  try {
    compile(given);
    return [];
  } catch (error) {
    return [problem([], `this is not JSON Schema: ${error instanceof Error ? error.message : String(error)}`)];
  }
}

/** One keyword may break several alternatives of the meta schema. */
function byPlace(errors: readonly ErrorObject[]): Map<string, Set<string>> {
  const messages = new Map<string, Set<string>>();
  for (const { instancePath, message = 'is not valid', keyword, params } of errors) {
    if (keyword === 'anyOf') continue; // its alternatives are listed
    const allowed = keyword === 'enum' ? `: ${(params as { allowedValues: unknown[] }).allowedValues.join(', ')}` : '';
    messages.set(instancePath, (messages.get(instancePath) ?? new Set()).add(message + allowed));
  }
  return messages;
}

export function pathOf(pointer: string): (string | number)[] {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part));
}
