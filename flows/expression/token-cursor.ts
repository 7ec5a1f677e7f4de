import { ExpressionSyntaxError, type Node } from './syntax';
import type { Token } from './tokens';

/** Of the tree; the evaluator recurses as deep. */
export const MAX_DEPTH = 100;

/** Where the parser is in the tokens of an expression, and how deep. */
export class TokenCursor {
  protected next = 0;
  protected depth = 0;
  /** Chains such as `a + b + c` make a deep tree without nesting in the text. */
  readonly #depths = new WeakMap<Node, number>();

  constructor(protected readonly tokens: readonly Token[]) {}

  protected made<N extends Node>(node: N, parts: readonly Node[]): N {
    const depth = 1 + Math.max(0, ...parts.map((part) => this.#depths.get(part) ?? 0));
    if (depth > MAX_DEPTH) throw this.tooDeep();
    this.#depths.set(node, depth);
    return node;
  }

  protected tooDeep(): ExpressionSyntaxError {
    return new ExpressionSyntaxError(
      `the expression is nested, or chained, more than ${MAX_DEPTH} deep; use several states`,
      this.peek().at,
    );
  }

  protected peek(): Token {
    return this.tokens[Math.min(this.next, this.tokens.length - 1)]!; // there is always the end
  }

  protected isName(text: string): boolean {
    const token = this.peek();
    return token.kind === 'name' && token.text === text;
  }

  protected isSymbol(text: string): boolean {
    const token = this.peek();
    return token.kind === 'symbol' && token.text === text;
  }

  protected takeName(text: string): boolean {
    const isThere = this.isName(text);
    if (isThere) this.next++;
    return isThere;
  }

  protected takeSymbol(text: string): boolean {
    const isThere = this.isSymbol(text);
    if (isThere) this.next++;
    return isThere;
  }

  protected expected(what: string): ExpressionSyntaxError {
    const token = this.peek();
    return new ExpressionSyntaxError(`${what} is expected before ${this.shown(token)}`, token.at);
  }

  protected shown(token: Token): string {
    switch (token.kind) {
      case 'end':
        return 'the end';
      case 'number':
      case 'string':
        return JSON.stringify(token.value);
      case 'path':
        return 'the path';
      default:
        return `"${token.text}"`;
    }
  }
}
