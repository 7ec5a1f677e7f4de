import { FUNCTIONS, STRING_METHODS } from './names';
import { ExpressionSyntaxError, type Clause, type Node } from './syntax';
import { TokenCursor } from './token-cursor';
import type { Token } from './tokens';

/** Values: constants, names, calls, displays, comprehensions, and what follows a value. */

const CONSTANTS = new Map([
  ['True', true],
  ['False', false],
  ['None', null],
] as const);
const KEYWORDS = new Set([
  'and',
  'or',
  'not',
  'in',
  'if',
  'else',
  'for',
  'is',
  'lambda',
  'await',
  'async',
  'yield',
  'import',
  'def',
  'class',
  'return',
  'while',
  'try',
  'except',
  'with',
  'as',
  'from',
  'global',
  'nonlocal',
  'del',
  'pass',
  'raise',
  'assert',
  'break',
  'continue',
  'elif',
  'finally',
]);

export abstract class ValueParser extends TokenCursor {
  protected abstract expression(): Node;
  /** An expression without `if` and `else` at its top. */
  protected abstract or(): Node;

  /** `a.b`, `a[0]`, `a[1:2]`, `a.method()` after a value. */
  protected trailed(): Node {
    let node = this.#atom();
    for (;;) {
      if (this.takeSymbol('.')) node = this.#member(node);
      else if (this.takeSymbol('[')) node = this.#subscript(node);
      else if (this.isSymbol('('))
        throw new ExpressionSyntaxError('only functions and methods of strings can be called', this.peek().at);
      else return node;
    }
  }

  #member(object: Node): Node {
    const token = this.peek();
    if (token.kind !== 'name') throw this.expected('a name');
    this.next++;
    if (!this.takeSymbol('(')) return this.made({ kind: 'member', object, name: token.text }, [object]);
    if (!STRING_METHODS.has(token.text)) {
      const known = [...STRING_METHODS.keys()].join(', ');
      throw new ExpressionSyntaxError(`there is no method ${token.text}; the methods of strings are ${known}`, token.at);
    }
    const { args, named } = this.#arguments();
    if (Object.keys(named).length > 0)
      throw new ExpressionSyntaxError(`${token.text} takes arguments by position only`, token.at);
    requireCount(token, STRING_METHODS.get(token.text), args.length);
    return this.made({ kind: 'method', object, name: token.text, args }, [object, ...args]);
  }

  #subscript(object: Node): Node {
    const bounds: (Node | undefined)[] = [undefined];
    while (!this.takeSymbol(']')) {
      if (this.takeSymbol(':')) bounds.push(undefined);
      else if (bounds.at(-1) === undefined) bounds[bounds.length - 1] = this.expression();
      else throw this.expected(']');
      if (bounds.length > 3) throw this.expected(']');
    }
    const [from, to, step] = bounds;
    const parts = [object, from, to, step].filter((part) => part !== undefined);
    if (bounds.length > 1) return this.made({ kind: 'slice', object, from, to, step }, parts);
    if (!from) throw this.expected('an index');
    return this.made({ kind: 'index', object, index: from }, parts);
  }

  #atom(): Node {
    const token = this.peek();
    this.next++;
    switch (token.kind) {
      case 'number':
        return this.made({ kind: 'constant', value: token.value }, []);
      case 'string':
        return this.made({ kind: 'constant', value: this.#joined(token.value) }, []);
      case 'path':
        return this.made({ kind: 'path', path: token.path }, []);
      case 'name':
        return this.#named(token);
      case 'symbol':
        if (token.text === '(') return this.#parenthesized();
        if (token.text === '[') return this.#list();
        if (token.text === '{') return this.#dict();
    }
    throw new ExpressionSyntaxError(
      token.kind === 'end' ? 'a value is missing at the end' : `a value is expected before ${this.shown(token)}`,
      token.at,
    );
  }

  /** Strings side by side are one. */
  #joined(first: string): string {
    let value = first;
    for (let token = this.peek(); token.kind === 'string'; token = this.peek()) {
      value += token.value;
      this.next++;
    }
    return value;
  }

  #named(token: Token & { kind: 'name' | 'symbol' }): Node {
    const name = token.text;
    const constant = CONSTANTS.get(name as 'True');
    if (constant !== undefined) return this.made({ kind: 'constant', value: constant }, []);
    if (KEYWORDS.has(name)) throw new ExpressionSyntaxError(`"${name}" is not expected here`, token.at);
    if (!this.takeSymbol('(')) return this.made({ kind: 'name', name }, []);
    const shape = FUNCTIONS.get(name);
    if (!shape) {
      throw new ExpressionSyntaxError(
        `there is no function ${name}; the functions are ${[...FUNCTIONS.keys()].join(', ')}`,
        token.at,
      );
    }
    const { args, named } = this.#arguments();
    const stranger = Object.keys(named).find((one) => !shape.named.includes(one));
    if (stranger !== undefined) throw new ExpressionSyntaxError(`${name} has no argument ${stranger}`, token.at);
    requireCount(token, shape, args.length);
    return this.made({ kind: 'call', name, args, named }, [...args, ...Object.values(named)]);
  }

  #arguments(): { args: Node[]; named: Record<string, Node> } {
    const args: Node[] = [];
    const named: Record<string, Node> = {};
    while (!this.takeSymbol(')')) {
      const token = this.peek();
      const after = this.tokens[this.next + 1];
      if (token.kind === 'name' && after?.kind === 'symbol' && after.text === '=') {
        this.next += 2;
        named[token.text] = this.expression();
      } else if (Object.keys(named).length > 0) {
        throw new ExpressionSyntaxError('an argument by position follows one by name; write those by position first', token.at);
      } else {
        args.push(this.expression());
        if (this.isName('for')) throw new ExpressionSyntaxError('write a list comprehension with brackets', this.peek().at);
      }
      if (!this.takeSymbol(',') && !this.isSymbol(')')) throw this.expected(')');
    }
    return { args, named };
  }

  #parenthesized(): Node {
    if (this.isSymbol(')')) throw new ExpressionSyntaxError('tuples are not available; write a list', this.peek().at);
    const node = this.expression();
    if (this.isSymbol(',')) throw new ExpressionSyntaxError('tuples are not available; write a list', this.peek().at);
    if (this.isName('for')) throw new ExpressionSyntaxError('write a list comprehension with brackets', this.peek().at);
    if (!this.takeSymbol(')')) throw this.expected(')');
    // `(a < b) < c` is no chain: a comparison in parentheses is an operand of its own.
    return node;
  }

  #list(): Node {
    const items: Node[] = [];
    while (!this.takeSymbol(']')) {
      const item = this.expression();
      if (items.length === 0 && (this.isName('for') || this.isName('async'))) return this.#comprehension(item);
      items.push(item);
      if (!this.takeSymbol(',') && !this.isSymbol(']')) throw this.expected(']');
    }
    return this.made({ kind: 'list', items }, items);
  }

  #comprehension(element: Node): Node {
    const clauses: Clause[] = [];
    while (!this.takeSymbol(']')) {
      if (!this.takeName('for')) throw this.expected(clauses.length === 0 ? 'for' : ']');
      const names = [this.#variable()];
      while (this.takeSymbol(',')) names.push(this.#variable());
      if (!this.takeName('in')) throw this.expected('in');
      const list = this.or();
      const conditions: Node[] = [];
      while (this.takeName('if')) conditions.push(this.or());
      clauses.push({ names, list, conditions });
    }
    return this.made({ kind: 'comprehension', element, clauses }, [
      element,
      ...clauses.flatMap(({ list, conditions }) => [list, ...conditions]),
    ]);
  }

  #variable(): string {
    const token = this.peek();
    if (token.kind !== 'name' || KEYWORDS.has(token.text) || CONSTANTS.has(token.text as 'True')) throw this.expected('a name');
    this.next++;
    return token.text;
  }

  #dict(): Node {
    const entries: [Node, Node][] = [];
    while (!this.takeSymbol('}')) {
      const key = this.expression();
      if (!this.takeSymbol(':')) throw new ExpressionSyntaxError('sets are not available; a dict has key: value', this.peek().at);
      entries.push([key, this.expression()]);
      if (this.isName('for')) throw new ExpressionSyntaxError('dict comprehensions are not available', this.peek().at);
      if (!this.takeSymbol(',') && !this.isSymbol('}')) throw this.expected('}');
    }
    return this.made({ kind: 'dict', entries }, entries.flat());
  }
}

function requireCount(
  token: Token & { kind: 'name' | 'symbol' },
  shape: { min: number; max: number } | undefined,
  count: number,
): void {
  if (!shape || (count >= shape.min && count <= shape.max)) return;
  const wanted =
    shape.min === shape.max ? `${shape.min}` : shape.max === Infinity ? `at least ${shape.min}` : `${shape.min} to ${shape.max}`;
  throw new ExpressionSyntaxError(`${token.text} takes ${wanted} arguments, not ${count}`, token.at);
}
