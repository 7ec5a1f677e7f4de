/**
 * The calls of a run. A value names its call and the execution that made it, so that a wrong value, a value of another call
 * and the values of two executions of one call can be told apart.
 */

export type Kind = 'fast' | 'slow' | 'large' | 'fails' | 'js' | 'js-fails';

export interface Call {
  key: string;
  kind: Kind;
}

const SLOW_S = 1.5;
const LARGE = 1_200_000;

/** `key:square of the sum of its characters:random token`, with padding behind it when the call is a large one. */
export const PYTHON_SOURCE = `
def chaos(key, kind):
    import time, uuid
    token = uuid.uuid4().hex
    if kind == "slow":
        time.sleep(${SLOW_S})
    if kind == "fails":
        raise ValueError(f"{key}:failed:{token}")
    padding = "x" * ${LARGE} if kind == "large" else ""
    return f"{key}:{sum(map(ord, key)) ** 2}:{token}{padding}"
`;

/** The same as {@link PYTHON_SOURCE}. The agent gets the source of the function, so it may use nothing from outside. */
export function chaosInJavascript(key: string, kind: string): string {
  const token = Array.from({ length: 32 }, () => Math.floor(Math.random() * 16).toString(16)).join('');
  if (kind === 'js-fails') throw new Error(`${key}:failed:${token}`);
  const sum = Array.from(key).reduce((total, letter) => total + letter.charCodeAt(0), 0);
  return `${key}:${sum ** 2}:${token}`;
}

export const failsOnPurpose = (kind: Kind): boolean => kind === 'fails' || kind === 'js-fails';

/** What a right answer says, found in a value, in a traceback or in a pickle; undefined when it is not in there. */
export function findAnswer({ key, kind }: Call, text: string): string | undefined {
  const sum = Array.from(key).reduce((total, letter) => total + letter.charCodeAt(0), 0);
  const result = failsOnPurpose(kind) ? 'failed' : String(sum ** 2);
  return new RegExp(`${key}:${result}:[0-9a-f]{32}`).exec(text)?.[0];
}

/** The call that an answer is of, whoever it belongs to. In a pickle the byte before a key may be a digit: it is the length. */
export const keyOf = (answer = ''): string | undefined => /([a-z][\w.-]*):(?:\d+|failed):[0-9a-f]{32}/.exec(answer)?.[1];

const KINDS: Record<'mixed' | 'python', readonly Kind[]> = {
  mixed: ['fast', 'js', 'fast', 'fails', 'fast', 'js', 'slow', 'fast', 'js-fails', 'fast', 'fast', 'large'],
  python: ['fast', 'fast', 'slow', 'fast', 'fails', 'fast'],
};

/** The kind of a submitter's call by its number. */
export function kindOf(languages: 'mixed' | 'python' | 'plain', number: number): Kind {
  if (languages === 'plain') return 'fast';
  const kinds = KINDS[languages];
  return kinds[number % kinds.length]!; // the index is within the list
}
