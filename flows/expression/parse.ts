import { ExpressionSyntaxError, type BinaryOperator, type Comparison, type Node } from './syntax';
import { MAX_DEPTH } from './token-cursor';
import { readTokens } from './tokens';
import { ValueParser } from './parse-values';

/**
 * Reads the Python subset of `.=` expressions. Written by hand: `@lezer/python` binds `not` looser than `and`, reads
 * statements, and repairs mistakes where an author has to be told of them.
 */

const MAX_CHARS = 10_000;
const COMPARISONS = new Set(['==', '!=', '<', '<=', '>', '>=']);

/** Throws an {@link ExpressionSyntaxError}. */
export function parseExpression(text: string): Node {
  if (text.length > MAX_CHARS) throw new ExpressionSyntaxError(`an expression has at most ${MAX_CHARS} characters`, 0);
  return new Parser(readTokens(text)).whole();
}

/** Operators, each level of precedence above the next. */
class Parser extends ValueParser {
  whole(): Node {
    const node = this.expression();
    const token = this.peek();
    if (token.kind !== 'end') {
      const hint = this.isSymbol(',') ? '; a list needs brackets' : this.isSymbol('=') ? '; an expression has no assignment' : '';
      throw new ExpressionSyntaxError(`${this.shown(token)} is not expected here${hint}`, token.at);
    }
    return node;
  }

  protected expression(): Node {
    if (++this.depth > MAX_DEPTH) throw this.tooDeep();
    const then = this.or();
    let node = then;
    if (this.takeName('if')) {
      const test = this.or();
      if (!this.takeName('else')) throw this.expected('else');
      node = this.made({ kind: 'conditional', test, then, otherwise: this.expression() }, [test, then]);
    }
    this.depth--;
    return node;
  }

  protected or(): Node {
    let left = this.#and();
    while (this.takeName('or')) left = this.#logical('or', left, this.#and());
    return left;
  }

  #and(): Node {
    let left = this.#not();
    while (this.takeName('and')) left = this.#logical('and', left, this.#not());
    return left;
  }

  #logical(operator: 'and' | 'or', left: Node, right: Node): Node {
    return this.made({ kind: 'logical', operator, left, right }, [left, right]);
  }

  #not(): Node {
    if (!this.takeName('not')) return this.#comparison();
    if (++this.depth > MAX_DEPTH) throw this.tooDeep();
    const operand = this.#not();
    this.depth--;
    return this.made({ kind: 'unary', operator: 'not', operand }, [operand]);
  }

  #comparison(): Node {
    const first = this.#sum();
    const rest: [Comparison, Node][] = [];
    for (let operator = this.#takeComparison(); operator; operator = this.#takeComparison()) rest.push([operator, this.#sum()]);
    return rest.length === 0 ? first : this.made({ kind: 'compare', first, rest }, [first, ...rest.map(([, node]) => node)]);
  }

  #takeComparison(): Comparison | undefined {
    const token = this.peek();
    if (token.kind === 'symbol' && COMPARISONS.has(token.text)) {
      this.next++;
      return token.text as Comparison;
    }
    if (this.takeName('in')) return 'in';
    if (this.isName('is')) throw new ExpressionSyntaxError('"is" is not available; compare with == or !=', token.at);
    if (!this.isName('not')) return undefined;
    this.next++;
    if (!this.takeName('in')) throw this.expected('in');
    return 'not in';
  }

  #sum(): Node {
    return this.#chain(['+', '-'], () => this.#product());
  }

  #product(): Node {
    return this.#chain(['*', '/', '//', '%'], () => this.#sign());
  }

  #chain(operators: BinaryOperator[], operand: () => Node): Node {
    let left = operand();
    for (;;) {
      const operator = operators.find((one) => this.takeSymbol(one));
      if (!operator) return left;
      const right = operand();
      left = this.made({ kind: 'binary', operator, left, right }, [left, right]);
    }
  }

  #sign(): Node {
    const operator = (['-', '+'] as const).find((one) => this.takeSymbol(one));
    if (!operator) return this.#power();
    if (++this.depth > MAX_DEPTH) throw this.tooDeep();
    const operand = this.#sign();
    this.depth--;
    return this.made({ kind: 'unary', operator, operand }, [operand]);
  }

  #power(): Node {
    const left = this.trailed();
    if (!this.takeSymbol('**')) return left;
    const right = this.#sign();
    return this.made({ kind: 'binary', operator: '**', left, right }, [left, right]);
  }
}
