import { lookUp, parseDotted, PathSyntaxError, resolvePath, type Path, type Scope } from '../paths';
import { force, has, isJsonObject, put, type Json, type JsonObject } from '../values';
import { Budget } from './budget';
import { asNumber, equal, keysOf, order, truth } from './compare';
import { intrinsicError } from './intrinsic-error';
import { finite, plainFunctions, stringMethods, whole } from './functions';
import type { BinaryOperator, Comparison, Node } from './syntax';
import { codePoints, indexed, indexOfPart, lengthOf, MAX_NATIVE_PART, typeName } from './text';

/** Computes an expression: the same state gives the same value, within a {@link Budget}. Throws a FlowError. */

const PATH_CHARS_AN_OPERATION = 20;
/** What looks at each character costs as much as this many characters that V8 compares. */
const SLOW = 10;

export function evaluate(node: Node, scope: Scope): Json {
  return new Evaluation(scope).value(node);
}

class Evaluation {
  readonly #budget: Budget;
  /** Variables of comprehensions, the innermost last. */
  readonly #variables: Map<string, Json>[] = [];

  constructor(private readonly scope: Scope) {
    this.#budget = scope.budget ?? new Budget();
    this.#budget.beginExpression();
  }

  /** May be a reference to a value that nothing looked into. */
  value(node: Node): Json {
    this.#budget.countOperation();
    switch (node.kind) {
      case 'constant':
        return node.value;
      case 'name':
        return this.#name(node.name);
      case 'path':
        this.#budget.countOperation(node.path.length);
        return resolvePath(this.scope, node.path);
      case 'list':
        this.#budget.reserve(node.items.length);
        return node.items.map((item) => this.value(item));
      case 'dict':
        return this.#dict(node.entries);
      case 'comprehension': {
        const result: Json[] = [];
        this.#comprehend(node, 0, result);
        return result;
      }
      case 'unary':
        return this.#unary(node.operator, node.operand);
      case 'binary':
        return this.#binary(node.operator, this.#forced(node.left), this.#forced(node.right));
      case 'logical': {
        const left = this.value(node.left);
        return this.#isTrue(this.#force(left)) === (node.operator === 'and') ? this.value(node.right) : left;
      }
      case 'compare':
        return this.#compare(node.first, node.rest);
      case 'conditional':
        return this.value(this.#isTrue(this.#forced(node.test)) ? node.then : node.otherwise);
      case 'member':
        return this.#member(this.#forced(node.object), node.name);
      case 'index':
        return this.#index(this.#forced(node.object), this.#forced(node.index));
      case 'slice':
        return this.#slice(node);
      case 'call':
        return this.#call(node.name, node.args, node.named);
      case 'method': {
        const self = this.#forced(node.object);
        if (typeof self !== 'string') throw intrinsicError(`${typeName(self)} has no method ${node.name}`);
        this.#budget.reserve(self.length);
        return stringMethods[node.name]!(
          self,
          node.args.map((arg) => this.#read(this.#forced(arg))),
          this.#budget,
        ); // the parser knows the names
      }
    }
  }

  #forced(node: Node): Json {
    return this.#force(this.value(node));
  }

  #force(value: Json): Json {
    return force(value, this.scope.loaded);
  }

  #isTrue(value: Json): boolean {
    return truth(value, this.#budget);
  }

  #read(value: Json): Json {
    if (typeof value === 'string') this.#budget.read(value.length);
    return value;
  }

  #indexed(text: string): string | string[] {
    this.#budget.read(text.length);
    const chars = indexed(text);
    if (typeof chars !== 'string') this.#budget.reserve(text.length);
    return chars;
  }

  #name(name: string): Json {
    for (let at = this.#variables.length - 1; at >= 0; at--) {
      const value = this.#variables[at]!.get(name); // at is a place of it
      if (value !== undefined) return value;
    }
    const found = lookUp(this.scope, [name]);
    if (found !== undefined) return found;
    throw intrinsicError(`there is no ${name} in the state of the run`);
  }

  #dict(entries: readonly [Node, Node][]): Json {
    this.#budget.reserve(entries.length);
    const result: JsonObject = {};
    for (const [key, value] of entries) {
      const name = this.#forced(key);
      if (typeof name !== 'string') throw intrinsicError(`the keys of an object are strings, not ${typeName(name)}`);
      put(result, name, this.value(value));
    }
    return result;
  }

  #comprehend(node: Node & { kind: 'comprehension' }, at: number, result: Json[]): void {
    const clause = node.clauses[at];
    if (!clause) {
      this.#budget.reserve(1);
      result.push(this.value(node.element));
      return;
    }
    const list = this.#forced(clause.list);
    if (typeof list === 'string') this.#budget.reserve(list.length);
    const items = typeof list === 'string' ? codePoints(list) : isJsonObject(list) ? keysOf(list, this.#budget) : list;
    if (!Array.isArray(items)) throw intrinsicError(`${typeName(list)} is not a list to go through`);
    for (const item of items) {
      this.#budget.countOperation();
      const variables = new Map<string, Json>();
      this.#bind(clause.names, item, variables);
      this.#variables.push(variables);
      if (clause.conditions.every((condition) => this.#isTrue(this.#forced(condition)))) this.#comprehend(node, at + 1, result);
      this.#variables.pop();
    }
  }

  #bind(names: readonly string[], item: Json, variables: Map<string, Json>): void {
    const [only] = names;
    if (names.length === 1 && only !== undefined) {
      variables.set(only, item);
      return;
    }
    const parts = this.#force(item);
    if (!Array.isArray(parts) || parts.length !== names.length) throw intrinsicError(`an item is not a list of ${names.length}`);
    names.forEach((name, place) => variables.set(name, parts[place]!)); // of one length
  }

  #unary(operator: '-' | '+' | 'not', operand: Node): Json {
    const value = this.#forced(operand);
    if (operator === 'not') return !this.#isTrue(value);
    const number = asNumber(value);
    if (number === undefined) throw intrinsicError(`${operator} takes a number, not ${typeName(value)}`);
    return operator === '-' ? -number + 0 : number;
  }

  #binary(operator: BinaryOperator, left: Json, right: Json): Json {
    const [a, b] = [asNumber(left), asNumber(right)];
    if (a !== undefined && b !== undefined) return finite(calculate(operator, a, b)) + 0;
    if (operator === '+') {
      if (typeof left === 'string' && typeof right === 'string') {
        this.#budget.reserve(left.length + right.length);
        return left + right;
      }
      if (Array.isArray(left) && Array.isArray(right)) {
        this.#budget.reserve(left.length + right.length);
        return [...left, ...right];
      }
    }
    if (operator === '*') {
      const [many, times] = a === undefined ? [left, right] : [right, left];
      if (typeof many === 'string' || Array.isArray(many)) return this.#repeat(many, whole(times, '*'));
    }
    throw intrinsicError(`${operator} is not possible between ${typeName(left)} and ${typeName(right)}`);
  }

  #repeat(many: string | Json[], times: number): Json {
    const count = Math.max(0, times);
    this.#budget.reserve(many.length * count);
    if (typeof many === 'string') return many.repeat(many === '' ? 0 : count);
    const result: Json[] = [];
    for (let n = 0; n < (many.length === 0 ? 0 : count); n++) for (const item of many) result.push(item);
    return result;
  }

  #compare(first: Node, rest: readonly [Comparison, Node][]): boolean {
    let left = this.#forced(first);
    for (const [operator, node] of rest) {
      const right = this.#forced(node);
      if (!this.#holds(operator, left, right)) return false;
      left = right;
    }
    return true;
  }

  #holds(operator: Comparison, left: Json, right: Json): boolean {
    switch (operator) {
      case '==':
        return equal(left, right, this.#budget);
      case '!=':
        return !equal(left, right, this.#budget);
      case 'in':
        return this.#isIn(left, right);
      case 'not in':
        return !this.#isIn(left, right);
      case '<':
        return order(left, right, this.#budget) < 0;
      case '<=':
        return order(left, right, this.#budget) <= 0;
      case '>':
        return order(left, right, this.#budget) > 0;
      case '>=':
        return order(left, right, this.#budget) >= 0;
    }
  }

  #isIn(item: Json, container: Json): boolean {
    if (Array.isArray(container)) return container.some((one) => equal(item, this.#force(one), this.#budget));
    if (typeof container === 'string' && typeof item === 'string') {
      this.#budget.read((container.length + item.length) * (item.length > MAX_NATIVE_PART ? SLOW : 1));
      return indexOfPart(container, item) >= 0;
    }
    if (isJsonObject(container)) return typeof item === 'string' && has(container, item);
    throw intrinsicError(`${typeName(item)} cannot be looked for in ${typeName(container)}`);
  }

  #member(object: Json, name: string): Json {
    if (!isJsonObject(object)) throw intrinsicError(`${typeName(object)} has no ${name}`);
    if (!has(object, name)) throw intrinsicError(`an object has no ${name}`);
    return object[name]!; // it has it
  }

  #index(object: Json, index: Json): Json {
    if (isJsonObject(object)) {
      if (typeof index !== 'string') throw intrinsicError(`the keys of an object are strings, not ${typeName(index)}`);
      return this.#member(object, index);
    }
    if (typeof object !== 'string' && !Array.isArray(object)) throw intrinsicError(`${typeName(object)} has no places`);
    const list = typeof object === 'string' ? this.#indexed(object) : object;
    const at = whole(index, 'a place in a list');
    const value = list[at < 0 ? list.length + at : at];
    if (value === undefined) throw intrinsicError(`there is no place ${at} in ${list.length} items`);
    return value;
  }

  #slice({ object, from, to, step }: Node & { kind: 'slice' }): Json {
    const value = this.#forced(object);
    if (typeof value !== 'string' && !Array.isArray(value)) throw intrinsicError(`${typeName(value)} cannot be sliced`);
    const list = typeof value === 'string' ? this.#indexed(value) : value;
    const bound = (node: Node | undefined): number | undefined => {
      const given = node ? this.#forced(node) : null;
      return given === null ? undefined : whole(given, 'a slice');
    };
    const [start, stop, by = 1] = [bound(from), bound(to), bound(step)];
    if (by === 0) throw intrinsicError('a slice has a step other than 0');
    const length = list.length;
    const clamp = (at: number, low: number, high: number): number => Math.min(Math.max(at < 0 ? at + length : at, low), high);
    const result: Json[] = [];
    if (by > 0) {
      const end = stop === undefined ? length : clamp(stop, 0, length);
      for (let at = start === undefined ? 0 : clamp(start, 0, length); at < end; at += by) result.push(list[at]!); // within
    } else {
      const end = stop === undefined ? -1 : clamp(stop, -1, length - 1);
      for (let at = start === undefined ? length - 1 : clamp(start, -1, length - 1); at > end; at += by) result.push(list[at]!);
    }
    this.#budget.reserve(result.length);
    return typeof value === 'string' ? result.map((char) => char as string).join('') : result;
  }

  #call(name: string, args: readonly Node[], named: Readonly<Record<string, Node>>): Json {
    if (name === 'is_present') return this.#lookUp(args[0]!) !== undefined; // counted by the parser
    if (name === 'getattr') {
      const path = this.#path(args[0]!); // counted by the parser
      const found = lookUp(this.scope, path);
      if (found !== undefined) return found;
      const fallback = args[1] ?? named.default;
      if (fallback) return this.value(fallback);
      throw intrinsicError(`getattr found no ${path.join('.')} in the state of the run, and has no default`);
    }
    const given = args.map((arg) => this.#read(this.#forced(arg)));
    const byName = Object.fromEntries(Object.entries(named).map(([key, node]) => [key, this.#forced(node)]));
    if (name === 'len' && typeof given[0] === 'string') {
      this.#budget.read(given[0].length * SLOW);
      return lengthOf(given[0]);
    }
    return plainFunctions[name]!(given, this.#budget, byName); // the parser knows the names
  }

  #lookUp(node: Node): Json | undefined {
    return lookUp(this.scope, this.#path(node));
  }

  #path(node: Node): Path {
    const name = this.#forced(node);
    if (typeof name !== 'string') throw intrinsicError(`is_present and getattr take the name as a string, not ${typeName(name)}`);
    this.#budget.countOperation(name.length / PATH_CHARS_AN_OPERATION);
    try {
      return parseDotted(name);
    } catch (error) {
      if (error instanceof PathSyntaxError) throw intrinsicError(error.message);
      throw error;
    }
  }
}

function calculate(operator: BinaryOperator, a: number, b: number): number {
  if (b === 0 && (operator === '/' || operator === '//' || operator === '%')) throw intrinsicError('division by zero');
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return a / b;
    case '//':
      return floored(a, b).quotient;
    case '%':
      return floored(a, b).rest;
    case '**':
      if (a === 0 && b < 0) throw intrinsicError('division by zero');
      return a ** b;
  }
}

/** As CPython does it for floats; for whole numbers that a double holds it is exact. */
function floored(a: number, b: number): { quotient: number; rest: number } {
  let rest = a % b;
  let quotient = (a - rest) / b;
  if (rest !== 0 && rest < 0 !== b < 0) {
    rest += b;
    quotient -= 1;
  }
  const floor = Math.floor(quotient);
  return { quotient: quotient - floor > 0.5 ? floor + 1 : floor, rest };
}
