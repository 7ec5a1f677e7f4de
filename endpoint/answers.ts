import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Publisher } from '../broker';
import { ApiError } from '../client';
import { CAPABILITY, encodeBatch } from '../contracts/batches';
import { attemptName, encodeFrame, type ResultData } from '../contracts/frames';
import type { AgentRegistration } from '../contracts/http/v1';

import type { Attempt } from './attempts';
import { ResultBatches, type ResultMessage } from './result-batches';
import { failure, type Outcome } from './runners/runner';
import type { Slots } from './runners/slots';
import type { ServiceClient } from './service-client';

/** Sends results: large bodies over HTTP first, then the message; tries for as long as the agent lives. */

export interface AnswersOptions {
  client: ServiceClient;
  publisher: Publisher;
  /** Of the present connection. */
  registration: () => AgentRegistration;
  slots: Pick<Slots, 'capacity'>;
  whenConnected: () => Promise<void>;
  log: { warn(fields: object, text: string): void };
}

const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 15_000;
/** A failure's text beyond this loses its middle. */
const MAX_TEXT_CHARS = 64 * 1024;

/** Services of earlier versions send the number under its old name only. */
export const maxResultCharsOf = ({ max_body_chars, max_body_bytes }: AgentRegistration): number =>
  max_body_chars ?? max_body_bytes;

export class Answers {
  readonly #aborted = new AbortController();
  readonly #batches = new ResultBatches((messages) => this.#publish(messages));

  constructor(private readonly options: AnswersOptions) {}

  /** True when the broker confirmed the result; false when `close` came first. */
  async send(attempt: Attempt, outcome: Outcome): Promise<boolean> {
    const limited = limitOutcome(outcome, maxResultCharsOf(this.options.registration()));
    for (let backoffMs = FIRST_BACKOFF_MS; !this.#aborted.signal.aborted; backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS)) {
      try {
        await this.options.whenConnected();
        await this.#sendOnce(attempt, limited);
        return true;
      } catch (error) {
        if (this.#aborted.signal.aborted) break;
        this.options.log.warn(
          { task: attempt.taskId, reason: String(error), retryMs: backoffMs },
          'a result could not be sent yet',
        );
        await sleep(backoffMs, undefined, { signal: this.#aborted.signal }).catch(() => undefined); // aborted: the loop ends
      }
    }
    return false;
  }

  close(): void {
    this.#aborted.abort();
  }

  async #sendOnce(attempt: Attempt, outcome: Outcome): Promise<void> {
    const registration = this.options.registration();
    let answer = outcome;
    let isStored = false;
    if (outcome.data.length > registration.inline_body_bytes) {
      try {
        isStored = await this.#store(attempt, outcome.data);
      } catch (error) {
        if (!(error instanceof ApiError) || error.isTemporary) throw error;
        answer = { ...outcome, ...refused(error, outcome) };
      }
    }
    const { 'funcx-attempt': _attempt, traceparent } = attempt.headers;
    const message: ResultMessage = {
      taskId: attempt.taskId,
      name: attemptName(attempt.taskId, attempt.number),
      headers: {
        'funcx-attempt': attempt.number,
        ...(isStored ? { 'funcx-stored': true } : {}),
        'funcx-exit-code': answer.exitCode,
        'funcx-capacity': this.options.slots.capacity,
        traceparent,
      },
      body: encodeFrame({ message_type: 'result', data: resultData(attempt.taskId, answer, isStored, registration.endpoint_id) }),
    };
    const readsBatches = registration.capabilities?.includes(CAPABILITY.batches) ?? false;
    await (readsBatches ? this.#batches.send(message) : this.#publish([message]));
  }

  async #publish(messages: readonly ResultMessage[]): Promise<void> {
    const [first, ...others] = messages;
    if (!first) return;
    const { publisher, registration } = this.options;
    const { results } = registration();
    const isAlone = others.length === 0;
    await publisher.publish(results.exchange, results.routing_key, isAlone ? first.body : encodeBatch(messages), {
      ...(isAlone ? { headers: first.headers } : {}),
      mandatory: true,
      messageId: first.taskId,
      writeKey: isAlone ? first.name : `${first.name} and ${others.length} to ${others.at(-1)?.name}`,
      waitsWhileBlocked: true,
      userId: userOf(registration()),
      timestamp: Math.floor(Date.now() / 1000),
    });
  }

  /** False when the service named no place for it: then it travels inline. */
  async #store(attempt: Attempt, data: string): Promise<boolean> {
    const { 'funcx-result-path': path, 'funcx-result-token': token } = attempt.headers;
    if (!path || !token) return false;
    await this.options.client.storeBody(path, token, data);
    return true;
  }
}

/** Our own name, which the service compares with the endpoint that it minted it for. */
export function userOf(registration: AgentRegistration): string {
  return decodeURIComponent(new URL(registration.broker.url).username);
}

function resultData(taskId: string, outcome: Outcome, isStored: boolean, endpointId: string): ResultData {
  return {
    task_id: taskId,
    data: isStored ? '' : outcome.data,
    error_details: outcome.error ? { code: outcome.error.code, user_message: outcome.error.userMessage } : null,
    // Not in error_details, whose keys foreign clients may check.
    details: {
      ...outcome.details,
      endpoint_id: endpointId,
      hostname: hostname(),
      ...(outcome.error?.classes ? { exception: outcome.error.classes } : {}),
    },
    task_statuses: [
      { timestamp: outcome.startedNs, state: 'execution-start', actor: 'worker' },
      { timestamp: outcome.endedNs, state: 'execution-end', actor: 'worker' },
    ],
  };
}

/** Replaces a result over the limit by a failure that says so; shortens a failure's text. */
export function limitOutcome(outcome: Outcome, maxChars: number): Outcome {
  if (outcome.error) {
    if (outcome.data.length <= MAX_TEXT_CHARS) return outcome;
    const half = MAX_TEXT_CHARS / 2;
    return { ...outcome, data: `${outcome.data.slice(0, half)}\n[...]\n${outcome.data.slice(-half)}` };
  }
  if (outcome.data.length <= maxChars) return outcome;
  let chars = 0;
  for (const _ of outcome.data) chars++; // code points: what the clients' limits count
  if (chars <= maxChars) return outcome;
  const sentence = `The result has ${chars} serialized characters; the limit is ${maxChars}.`;
  return {
    ...outcome,
    data: `MaxResultSizeExceeded(${chars}, ${maxChars})`,
    error: { code: 'MaxResultSizeExceeded', userMessage: sentence },
  };
}

/** The service does not take the body: too large for it, or the task has its answer. A short failure decides it. */
function refused(error: ApiError, outcome: Outcome): Pick<Outcome, 'data' | 'error'> {
  const code = error.status === 413 ? 'MaxResultSizeExceeded' : 'EndpointFailed';
  return failure(code, `The service did not take the result of ${outcome.data.length} characters: ${error.message}`);
}
