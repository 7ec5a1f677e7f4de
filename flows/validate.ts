import type { FlowAnalysis, FlowProblem, FlowRules } from '../contracts/flows';
import { isObject, measure } from './values';
import { checkStates } from './validate-states';
import type { Reporter } from './validate-values';

/** Every mistake of a definition, each with its place and what to do. Never throws. */

const MAX_CHARS = 1_000_000;
/** Every level may be a call of a function that walks through the definition. */
const MAX_DEPTH = 200;

export function validateDefinition(definition: unknown, rules: FlowRules = {}): FlowAnalysis {
  const problems: FlowProblem[] = [];
  const scopes = new Set<string>();
  const notPortable: FlowAnalysis['notPortable'] = [];
  const report: Reporter = {
    allowedUrls: rules.allowedUrls ?? [],
    problem: (loc, type, msg, code) => problems.push({ loc, msg, type, code }),
    scope: (scope) => scopes.add(scope),
    extension: (loc, msg) => notPortable.push({ loc, msg }),
  };
  const { size, depth } = measure(definition);
  if (size > MAX_CHARS) report.problem([], 'too_long', `the definition has more than ${MAX_CHARS} characters; use several flows`);
  else if (depth > MAX_DEPTH) report.problem([], 'too_deep', `the definition is nested more than ${MAX_DEPTH} deep`);
  else if (!isObject(definition)) report.problem([], 'type_error', 'a definition is an object with StartAt and States');
  else checkStates(definition, [], report);
  return { problems, scopes: { User: [...scopes].sort() }, notPortable };
}
