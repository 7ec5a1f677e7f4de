import { randomUUID } from 'node:crypto';

import type { ReferringPayload } from '../accepting/accept-request';
import { referenceSchema } from '../contracts/call-schemas';
import { REFERENCE_KEY } from '../contracts/calls';
import { TerminalError } from '../contracts/errors';
import { ExactNumber, stringifyJsonText } from '../contracts/json-text';
import { BUFFER, packBuffer, packJsonArguments, unpackBuffers } from '../contracts/packing';
import type { Identity } from '../platform/access';
import { findFunction } from '../platform/store/functions';
import { readReferable, savePipelineFunction } from '../platform/store/pipelines';
import type { ActivityDeps } from './deps';

/**
 * Turns the arguments of pipeline calls into task bodies. Arguments without references become plain JSON. For arguments with
 * references, the task runs a small function of ours on the endpoint. The function decodes the referenced buffers and calls the
 * author's function with the values; no process of the service decodes them.
 */

export interface CallArguments {
  args: unknown[];
  kwargs: Record<string, unknown>;
}

export interface PackedCalls {
  /** The function that the tasks run: the author's, or ours that wraps it. */
  functionId: string;
  payloads: (string | ReferringPayload)[];
}

const APPLY = {
  name: 'funcx_apply',
  version: '1',
  source: `def funcx_apply(code, args, kwargs, buffers):
    from globus_compute_sdk.serialize import ComputeSerializer

    serializer = ComputeSerializer()
    values = {}

    def resolve(given):
        if isinstance(given, list):
            return [resolve(one) for one in given]
        if isinstance(given, dict):
            if len(given) == 1 and "$funcx_buffer" in given:
                at = given["$funcx_buffer"]
                if at not in values:
                    values[at] = serializer.deserialize(buffers[at])
                    buffers[at] = None
                return values[at]
            return {key: resolve(one) for key, one in given.items()}
        return given

    function = serializer.deserialize(code)
    return function(*resolve(args), **resolve(kwargs))
`,
} as const;

/** Our agents fetch large bodies over HTTP. A larger body would need too much memory in a worker. */
const MAX_AGENT_BYTES = 512 * 1024 * 1024;

export async function packCalls(
  deps: ActivityDeps,
  identity: Identity,
  target: { functionId: string; isAgent: boolean },
  calls: readonly CallArguments[],
): Promise<PackedCalls> {
  const parts = calls.map(({ args, kwargs }) => takeReferences(args, kwargs));
  const sources = [...new Set(parts.flatMap((part) => part.sources))];
  const maxChars = deps.config.FUNCX_MAX_BODY_CHARS;
  if (sources.length === 0) {
    const payloads = calls.map(({ args, kwargs }) => packJsonArguments(args, kwargs));
    for (const payload of payloads) requireFit(payload.length, maxChars);
    return { functionId: target.functionId, payloads };
  }
  const bytesOf = await readReferable(deps.db, identity.id, sources);
  const missing = sources.find((id) => !bytesOf.has(id));
  if (missing !== undefined) {
    throw new TerminalError(
      'TASK_NOT_FOUND',
      `the referenced result of task ${missing} no longer exists, or it belongs to another identity; repeat the call that produced it`,
    );
  }
  const [functionId, code] = await Promise.all([applyFunction(deps, identity), codeOf(deps, target.functionId)]);
  const payloads = parts.map((part) => {
    const text = `${stringifyJsonText([code, part.args, part.kwargs]).slice(0, -1)},[`;
    const bytes = part.sources.reduce((sum, id) => sum + (bytesOf.get(id) ?? 0), text.length);
    requireFit(bytes, target.isAgent ? Math.max(maxChars, MAX_AGENT_BYTES) : maxChars);
    // Other calls have references and this call has none: its list of buffers stays empty.
    return part.sources.length > 0 ? { text, sources: part.sources, bytes } : complete(text);
  });
  return { functionId, payloads };
}

function requireFit(chars: number, limit: number): void {
  if (chars <= limit) return;
  throw new TerminalError(
    'PAYLOAD_TOO_LARGE',
    `the arguments of a call have ${chars} serialized characters, but the limit of this endpoint is ${limit}; pass the result of an earlier call by reference, or a path or URL that the endpoint can read`,
  );
}

/** The start of a body whose references have been inserted. */
export const completeStart = (bytes: number): string => `${bytes}\n${BUFFER.json}\n`;

const complete = (text: string): string => packBuffer(BUFFER.json, `${text}]]`) + packBuffer(BUFFER.json, '{}');

interface Taken {
  args: unknown;
  kwargs: unknown;
  sources: string[];
}

/** Replaces each reference by the index of its buffer. Equal references share one buffer. */
function takeReferences(args: unknown[], kwargs: Record<string, unknown>): Taken {
  const sources: string[] = [];
  const replace = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(replace);
    if (typeof value !== 'object' || value === null || value instanceof ExactNumber) return value;
    if (REFERENCE_KEY in value) {
      const parsed = referenceSchema.safeParse(value);
      if (!parsed.success)
        throw new TerminalError(
          'INVALID_REQUEST',
          `an argument has the key "${REFERENCE_KEY}", which only references have, and is not a reference; rename the key`,
        );
      const known = sources.indexOf(parsed.data.taskId);
      return { $funcx_buffer: known >= 0 ? known : sources.push(parsed.data.taskId) - 1 };
    }
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, replace(inner)]));
  };
  return { args: replace(args), kwargs: replace(kwargs), sources };
}

async function applyFunction({ db }: ActivityDeps, identity: Identity): Promise<string> {
  const { name, version, source } = APPLY;
  const code = Buffer.from(packBuffer(BUFFER.pythonSource, `${name}:${source}`));
  const saved = await savePipelineFunction(db, randomUUID(), { ownerId: identity.id, name, version, code, language: 'python' });
  return saved.id;
}

/** The author's function as one buffer that Python can deserialize. */
async function codeOf({ db }: ActivityDeps, functionId: string): Promise<string> {
  const fn = await findFunction(db, functionId);
  if (!fn) throw new TerminalError('FUNCTION_NOT_FOUND', `function ${functionId} was deleted; register it again`);
  const [buffer] = unpackBuffers(fn.code.toString('utf8'));
  if (!buffer || buffer.identifier === BUFFER.javascriptSource || buffer.identifier === BUFFER.shell) {
    throw new TerminalError('INVALID_REQUEST', `function ${fn.name} is not Python; only Python functions take references`);
  }
  return `${buffer.identifier}\n${buffer.body}`;
}
