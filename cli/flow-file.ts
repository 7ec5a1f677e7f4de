import { readFileSync } from 'node:fs';
import { basename, extname } from 'node:path';

import { isNode, LineCounter, parseDocument, type Document } from 'yaml';

import { validateDefinition } from '../flows';
import { UserError } from '../local/machine/user-error';

/**
 * A flow in a file, YAML or JSON: a definition alone, or an object with `definition` and what else `POST /flows` takes.
 * Mistakes are told with line and column.
 */

export interface FlowFile {
  title: string;
  /** As for `POST /flows`, without title, definition and input schema. */
  extra: Record<string, unknown>;
  definition: unknown;
  inputSchema: unknown;
  /** One line each, with `file:line:column`; empty for a good file. */
  problems: string[];
  notPortable: string[];
}

const ANY_INPUT = { type: 'object', additionalProperties: true };

export function readFlowFile(path: string): FlowFile {
  const counter = new LineCounter();
  // JSON is YAML, so that one parser gives places for both.
  const document = parseDocument(readText(path), { lineCounter: counter, prettyErrors: false, uniqueKeys: true });
  const at = (offset: number): string => {
    const { line, col } = counter.linePos(offset);
    return `${path}:${line}:${col}`;
  };
  const [syntax] = document.errors;
  if (syntax) throw new UserError(`${at(syntax.pos[0])}: ${syntax.message}`);
  const whole: unknown = document.toJS({ maxAliasCount: 100 });
  if (typeof whole !== 'object' || whole === null || Array.isArray(whole))
    throw new UserError(`${at(0)}: a flow is an object with StartAt and States, or with definition.`);
  const fields = whole as Record<string, unknown>;
  const isWrapped = 'definition' in fields;
  const { title, definition, input_schema: inputSchema, ...extra } = isWrapped ? fields : { definition: fields };
  const { problems, notPortable } = validateDefinition(definition);
  const place = (loc: readonly (string | number)[]): string => at(offsetOf(document, isWrapped ? ['definition', ...loc] : loc));
  return {
    title: typeof title === 'string' ? title : basename(path, extname(path)),
    extra,
    definition,
    inputSchema: inputSchema ?? ANY_INPUT,
    problems: problems.map(({ loc, msg }) => `${place(loc)}: ${loc.join('.')}: ${msg}`),
    notPortable: notPortable.map(({ loc, msg }) => `${place(loc)}: ${loc.join('.')}: ${msg}`),
  };
}

export function readText(path: string): string {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (error) {
    throw new UserError(`${path} cannot be read: ${(error as NodeJS.ErrnoException).code ?? String(error)}.`);
  }
}

/** Of the innermost part of the path that is there. */
function offsetOf(document: Document, loc: readonly (string | number)[]): number {
  for (let length = loc.length; length >= 0; length--) {
    const part = loc.slice(0, length);
    const node: unknown = part.length === 0 ? document.contents : document.getIn(part, true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return 0;
}
