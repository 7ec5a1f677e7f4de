import { readFileSync } from 'node:fs';
import { basename, extname } from 'node:path';

import { isNode, LineCounter, parseDocument, type Document } from 'yaml';

import { createFlowSchema } from '../contracts/http/flows';
import { validateDefinition } from '../flows';
import { schemaProblems } from '../flows/input-schema';
import { UserError } from '../local/machine/user-error';

/** A flow in a YAML or JSON file: a definition, or an object with `definition` and other fields of `POST /flows`. */

export interface FlowFile {
  title: string;
  /** Other fields for `POST /flows`: all except the title, the definition and the input schema. */
  extra: Record<string, unknown>;
  definition: unknown;
  inputSchema: unknown;
  /** One line each, with `file:line:column`; empty for a valid file. */
  problems: string[];
  notPortable: string[];
}

const ANY_INPUT = { type: 'object', additionalProperties: true };

export function readFlowFile(path: string): FlowFile {
  const counter = new LineCounter();
  // JSON is valid YAML, so one parser gives line and column for both.
  const document = parseDocument(readText(path), { lineCounter: counter, prettyErrors: false, uniqueKeys: true });
  const at = (offset: number): string => {
    const { line, col } = counter.linePos(offset);
    return `${path}:${line}:${col}`;
  };
  if (document.errors.length > 0)
    throw new UserError(document.errors.map(({ pos, message }) => `${at(pos[0])}: ${message}`).join('\n'));
  const whole: unknown = document.toJS({ maxAliasCount: 100 });
  if (typeof whole !== 'object' || whole === null || Array.isArray(whole))
    throw new UserError(`${at(0)}: a flow is an object with StartAt and States, or with definition.`);
  const fields = whole as Record<string, unknown>;
  const isWrapped = 'definition' in fields;
  const { title, definition, input_schema: inputSchema, ...extra } = isWrapped ? fields : { definition: fields };
  const { problems, notPortable } = validateDefinition(definition);
  const name = basename(path, extname(path));
  const inDefinition = (loc: Place): Place => (isWrapped ? ['definition', ...loc] : loc);
  const all: Mistake[] = [
    ...problems.map(({ loc, msg }) => ({ place: inDefinition(loc), shown: loc, msg })),
    ...(isWrapped ? fieldMistakes({ title: name, input_schema: ANY_INPUT, ...fields }) : []),
    ...(inputSchema === undefined ? [] : schemaProblems(inputSchema).map(({ loc, msg }) => ({ place: loc, shown: loc, msg }))),
  ];
  const tell = (mistakes: readonly Mistake[]): string[] =>
    mistakes
      .map(({ place, shown, msg }) => ({ offset: offsetOf(document, place), text: `${shown.join('.')}: ${msg}` }))
      .sort((a, b) => a.offset - b.offset)
      .map(({ offset, text }) => `${at(offset)}: ${text}`);
  return {
    title: typeof title === 'string' ? title : name,
    extra,
    definition,
    inputSchema: inputSchema ?? ANY_INPUT,
    problems: tell(all),
    notPortable: tell(notPortable.map(({ loc, msg }) => ({ place: inDefinition(loc), shown: loc, msg }))),
  };
}

type Place = readonly (string | number)[];

interface Mistake {
  /** From the top of the file. */
  place: Place;
  shown: Place;
  msg: string;
}

/** Fields that `POST /flows` would refuse, apart from the definition and the input schema, which have their own checks. */
function fieldMistakes(fields: Record<string, unknown>): Mistake[] {
  const issues = createFlowSchema.safeParse(fields).error?.issues ?? [];
  return issues.flatMap((issue): Mistake[] => {
    const place = issue.path.map((step) => (typeof step === 'number' ? step : String(step)));
    if (place[0] === 'definition' || place[0] === 'input_schema') return [];
    if (issue.code !== 'unrecognized_keys') return [{ place, shown: place, msg: issue.message }];
    const msg = `there is no such field; the fields are ${Object.keys(createFlowSchema.shape).join(', ')}`;
    return issue.keys.map((key) => ({ place: [...place, key], shown: [...place, key], msg }));
  });
}

export function readText(path: string): string {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (error) {
    throw new UserError(`${path} cannot be read: ${(error as NodeJS.ErrnoException).code ?? String(error)}.`);
  }
}

/** Returns the offset of the innermost part of the path that exists in the document. */
function offsetOf(document: Document, loc: Place): number {
  for (let length = loc.length; length >= 0; length--) {
    const part = loc.slice(0, length);
    const node: unknown = part.length === 0 ? document.contents : document.getIn(part, true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return 0;
}
