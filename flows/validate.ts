import type { FlowAnalysis, FlowProblem, FlowRules } from '../contracts/flows';
import { isObject, measure } from './values';
import { checkStates } from './validate-states';
import type { Reporter } from './validate-values';

/** Every mistake of a definition, each with its place and what to do. Never throws. */

const MAX_CHARS = 1_000_000;
/** Every level may be a call of a function that walks through the definition. */
const MAX_DEPTH = 200;
/** A definition of the largest size may have hundreds of thousands of mistakes, and each repeats the names above it. */
const MAX_PROBLEMS = 100;
const MAX_EXTENSIONS = 1_000;
const MAX_NAME_CHARS = 200;
const MAX_MESSAGE_CHARS = 2_000;

export function validateDefinition(definition: unknown, rules: FlowRules = {}): FlowAnalysis {
  const problems: FlowProblem[] = [];
  const scopes = new Set<string>();
  const notPortable: FlowAnalysis['notPortable'] = [];
  let hasMore = false;
  const report: Reporter = {
    allowedUrls: rules.allowedUrls ?? [],
    problem: (loc, type, msg, code) => {
      if (problems.length < MAX_PROBLEMS) problems.push({ loc: loc.map(cut), msg: msg.slice(0, MAX_MESSAGE_CHARS), type, code });
      else hasMore = true;
    },
    scope: (scope) => scopes.add(scope),
    extension: (loc, msg) => {
      if (notPortable.length < MAX_EXTENSIONS) notPortable.push({ loc: loc.map(cut), msg });
    },
  };
  const { size, depth } = measure(definition);
  if (size > MAX_CHARS) report.problem([], 'too_long', `the definition has more than ${MAX_CHARS} characters; use several flows`);
  else if (depth > MAX_DEPTH) report.problem([], 'too_deep', `the definition is nested more than ${MAX_DEPTH} deep`);
  else if (!isObject(definition)) report.problem([], 'type_error', 'a definition is an object with StartAt and States');
  else checkStates(definition, [], report);
  if (hasMore) problems.push({ loc: [], msg: 'there are more mistakes; correct these first', type: 'too_long' });
  return { problems, scopes: { User: [...scopes].sort() }, notPortable };
}

const cut = (step: string | number): string | number => (typeof step === 'number' ? step : step.slice(0, MAX_NAME_CHARS));
