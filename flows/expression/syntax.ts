import type { Json } from '../values';
import type { Path } from '../paths';

/** The tree of an expression, and where it is not well formed. */

export type BinaryOperator = '+' | '-' | '*' | '/' | '//' | '%' | '**';
export type Comparison = '==' | '!=' | '<' | '<=' | '>' | '>=' | 'in' | 'not in';

export interface Clause {
  names: string[];
  list: Node;
  conditions: Node[];
}

export type Node =
  | { kind: 'constant'; value: Json }
  | { kind: 'name'; name: string }
  | { kind: 'path'; path: Path }
  | { kind: 'list'; items: Node[] }
  | { kind: 'dict'; entries: [Node, Node][] }
  | { kind: 'comprehension'; element: Node; clauses: Clause[] }
  | { kind: 'unary'; operator: '-' | '+' | 'not'; operand: Node }
  | { kind: 'binary'; operator: BinaryOperator; left: Node; right: Node }
  | { kind: 'logical'; operator: 'and' | 'or'; left: Node; right: Node }
  | { kind: 'compare'; first: Node; rest: [Comparison, Node][] }
  | { kind: 'conditional'; test: Node; then: Node; otherwise: Node }
  | { kind: 'member'; object: Node; name: string }
  | { kind: 'index'; object: Node; index: Node }
  | { kind: 'slice'; object: Node; from?: Node; to?: Node; step?: Node }
  | { kind: 'call'; name: string; args: Node[]; named: Record<string, Node> }
  | { kind: 'method'; object: Node; name: string; args: Node[] };

export class ExpressionSyntaxError extends Error {
  constructor(
    message: string,
    /** Characters before the place. */
    readonly at: number,
  ) {
    super(message);
    this.name = 'ExpressionSyntaxError';
  }
}
