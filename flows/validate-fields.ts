import type { Loc, Reporter } from './validate-values';
import { has } from './values';

/** Checks of single fields, for states of each type. */

export class StateNames {
  /** Made once, because a definition may have many wrong targets. */
  #lowerCase: Map<string, string> | undefined;

  constructor(private readonly states: object) {}

  has(name: string): boolean {
    return has(this.states, name);
  }

  findIgnoringCase(name: string): string | undefined {
    this.#lowerCase ??= new Map(Object.keys(this.states).map((known) => [known.toLowerCase(), known]));
    return this.#lowerCase.get(name.toLowerCase());
  }
}

export function checkTarget(target: unknown, loc: Loc, states: StateNames, report: Reporter): void {
  if (target === undefined) report.problem(loc, 'missing', `${String(loc.at(-1))} is missing; name a state`);
  else if (typeof target !== 'string') report.problem(loc, 'type_error', `${String(loc.at(-1))} must be the name of a state`);
  else if (!states.has(target)) {
    const near = states.findIgnoringCase(target);
    report.problem(loc, 'value_error', `there is no state "${target}"${near === undefined ? '' : `; did you mean "${near}"?`}`);
  }
}

function present(state: Record<string, unknown>, names: readonly string[]): string[] {
  return names.filter((name) => state[name] !== undefined);
}

export function requireExactlyOne(state: Record<string, unknown>, names: readonly string[], loc: Loc, report: Reporter): void {
  if (present(state, names).length === 0) report.problem(loc, 'missing', `the state needs one of ${names.join(', ')}`);
  else requireAtMostOne(state, names, loc, report);
}

export function requireAtMostOne(state: Record<string, unknown>, names: readonly string[], loc: Loc, report: Reporter): void {
  const given = present(state, names);
  if (given.length > 1) report.problem(loc, 'value_error', `the state may have only one of ${given.join(' and ')}`);
}

export function checkType(value: unknown, type: 'string' | 'boolean', loc: Loc, report: Reporter): void {
  if (value !== undefined && typeof value !== type) report.problem(loc, 'type_error', `${String(loc.at(-1))} must be a ${type}`);
}

export function checkNumber(
  value: unknown,
  loc: Loc,
  { least, most, isWhole = false, unit }: { least: number; most: number; isWhole?: boolean; unit: string },
  report: Reporter,
): void {
  if (value === undefined) return;
  if (typeof value === 'number' && value >= least && value <= most && (!isWhole || Number.isInteger(value))) return;
  const type = typeof value === 'number' ? 'value_error' : 'type_error';
  report.problem(
    loc,
    type,
    `${String(loc.at(-1))} must be a ${isWhole ? 'whole ' : ''}number of ${unit} from ${least} to ${most}`,
  );
}
