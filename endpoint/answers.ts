import { setMaxListeners } from 'node:events';
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

/** Sends results: first a large body over HTTP, then the message. Retries for as long as the agent runs. */

export interface AnswersOptions {
  client: ServiceClient;
  publisher: Publisher;
  registration: () => AgentRegistration;
  slots: Pick<Slots, 'capacity'>;
  whenConnected: () => Promise<void>;
  log: { warn(fields: object, text: string): void };
}

const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 15_000;
/** The middle of a longer failure text is cut out. */
const MAX_TEXT_CHARS = 64 * 1024;

/** Earlier versions of the service send the limit only under its old name. */
export const maxResultCharsOf = ({ max_body_chars, max_body_bytes }: AgentRegistration): number =>
  max_body_chars ?? max_body_bytes;

export class Answers {
  readonly #aborted = new AbortController();
  readonly #batches = new ResultBatches((messages) => this.#publish(messages));

  constructor(private readonly options: AnswersOptions) {
    setMaxListeners(0, this.#aborted.signal); // every result that waits for the broker listens
  }

  /** Resolves to true when the broker confirms the result, or to false if `close` is called first. */
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
      writeKeys: messages.map(({ name }) => name),
      waitsWhileBlocked: true,
      userId: userOf(registration()),
      timestamp: Math.floor(Date.now() / 1000),
    });
  }

  /** Uploads a large body. Returns false if the service gave no path for it; the body is then sent inline. */
  async #store(attempt: Attempt, data: string): Promise<boolean> {
    const { 'funcx-result-path': path, 'funcx-result-token': token } = attempt.headers;
    if (!path || !token) return false;
    await this.options.client.storeBody(path, token, data);
    return true;
  }
}

/** The broker user of this agent. RabbitMQ refuses a message whose user ID is not the user of its connection. */
export function userOf(registration: AgentRegistration): string {
  return decodeURIComponent(new URL(registration.broker.url).username);
}

function resultData(taskId: string, outcome: Outcome, isStored: boolean, endpointId: string): ResultData {
  return {
    task_id: taskId,
    data: isStored ? '' : outcome.data,
    error_details: outcome.error ? { code: outcome.error.code, user_message: outcome.error.userMessage } : null,
    // Not in error_details, because other clients may check its keys.
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

/** Replaces a result above the limit by a failure that says so, and shortens the text of a failure. */
export function limitOutcome(outcome: Outcome, maxChars: number): Outcome {
  if (outcome.error) {
    if (outcome.data.length <= MAX_TEXT_CHARS) return outcome;
    const half = MAX_TEXT_CHARS / 2;
    return { ...outcome, data: `${outcome.data.slice(0, half)}\n[...]\n${outcome.data.slice(-half)}` };
  }
  if (outcome.data.length <= maxChars) return outcome;
  let chars = 0;
  for (const _ of outcome.data) chars++; // code points, as the limits of the clients count
  if (chars <= maxChars) return outcome;
  const sentence = `The result has ${chars} serialized characters; the limit is ${maxChars}.`;
  return {
    ...outcome,
    data: `MaxResultSizeExceeded(${chars}, ${maxChars})`,
    error: { code: 'MaxResultSizeExceeded', userMessage: sentence },
  };
}

/** The failure to send if the service refuses a body: the body is too large, or the token is no longer valid. */
function refused(error: ApiError, outcome: Outcome): Pick<Outcome, 'data' | 'error'> {
  const code = error.status === 413 ? 'MaxResultSizeExceeded' : 'EndpointFailed';
  return failure(code, `The service did not accept the result of ${outcome.data.length} characters: ${error.message}`);
}
