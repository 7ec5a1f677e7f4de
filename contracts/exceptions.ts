/**
 * Which exception a failed attempt raised: as data from our agent, or parsed from a traceback of any other agent.
 * Workflows import this file, so it must not import zod.
 */

/** The class of an exception and its bases, by the last part of their dotted names; most specific first. */
export interface RaisedException {
  name: string;
  /** Dotted names as the agent sent them, most specific first. */
  classes: string[];
}

const TRACEBACK = /^Traceback \(most recent call last\):$/;
const GROUP_TRACEBACK = /^\s*\+ Exception Group Traceback \(most recent call last\):$/;
/** Python prints these lines between the tracebacks of a chain. */
const CHAIN = new Set([
  'During handling of the above exception, another exception occurred:',
  'The above exception was the direct cause of the following exception:',
]);
/** A dotted class name, followed by the message or by nothing. */
const EXCEPTION_LINE =
  /^([\p{ID_Start}_][\p{ID_Continue}.]*(?:\.<locals>\.[\p{ID_Start}_][\p{ID_Continue}.]*)*)(?::(?:\s|$)|\s*$)/u;

export function raisedException(details: unknown, text: string): RaisedException | undefined {
  const sent = classesOf(details);
  const [first] = sent;
  if (first !== undefined) return { name: lastPart(first), classes: sent };
  const parsed = exceptionClass(text);
  return parsed === undefined ? undefined : { name: lastPart(parsed), classes: [parsed] };
}

/** True when `wanted` names the exception or one of its bases, by its dotted name or the last part of that name. */
export function isNamed(exception: RaisedException, wanted: string): boolean {
  return exception.classes.some((name) => name === wanted || lastPart(name) === wanted);
}

/** The class name, without its module, of the exception that ends a traceback. */
export function exceptionName(text: string): string | undefined {
  const found = exceptionClass(text);
  return found === undefined ? undefined : lastPart(found);
}

/** Our agent sends the dotted names in the details of the result. */
function classesOf(details: unknown): string[] {
  if (typeof details !== 'object' || details === null || !('exception' in details)) return [];
  const { exception } = details;
  return Array.isArray(exception) ? exception.filter((name): name is string => typeof name === 'string' && name !== '') : [];
}

function exceptionClass(text: string): string | undefined {
  const lines = text.trimEnd().split('\n');
  const start = lastTraceback(lines);
  if (start === undefined) return classWithoutTraceback(lines);
  const isGroup = GROUP_TRACEBACK.test(lines[start] ?? '');
  for (const line of lines.slice(start + 1)) {
    const bare = isGroup ? line.replace(/^\s*\| ?/, '') : line;
    // Frames and their source are indented; the first line that is not names the exception, whatever its message holds.
    if (bare === '' || /^\s/.test(bare)) continue;
    return EXCEPTION_LINE.exec(bare)?.[1];
  }
  return undefined;
}

/** Where the last traceback of the chain begins. A traceback inside a message does not follow a line of {@link CHAIN}. */
function lastTraceback(lines: readonly string[]): number | undefined {
  let found: number | undefined;
  lines.forEach((line, index) => {
    if (!TRACEBACK.test(line) && !GROUP_TRACEBACK.test(line)) return;
    const before = lines[index - 2]?.replace(/^[\s|]*/, '') ?? '';
    if (found === undefined || CHAIN.has(before)) found = index;
  });
  return found;
}

/** The class in the first line of a JavaScript stack; else in the last line that names an exception, as programs print it. */
function classWithoutTraceback(lines: readonly string[]): string | undefined {
  if (lines.some((line) => /^ {4}at /.test(line))) return EXCEPTION_LINE.exec(lines[0] ?? '')?.[1];
  for (const line of [...lines].reverse()) {
    const name = EXCEPTION_LINE.exec(line)?.[1];
    if (name !== undefined) return name;
  }
  return undefined;
}

const lastPart = (name: string): string => name.slice(name.lastIndexOf('.') + 1);

const MAX_LINE_CHARS = 200;

/** The last line of a traceback, which names the exception. At most 200 characters. */
export function exceptionLineOf(text: string): string {
  return (text.trimEnd().split('\n').at(-1) ?? '').slice(0, MAX_LINE_CHARS);
}
