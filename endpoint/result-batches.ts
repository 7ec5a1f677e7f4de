import { MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, type BatchMessage } from '../contracts/batches';

/** Batches results while a publish is unconfirmed: until all are confirmed, a batch is full, or LINGER_MS have passed. */

export interface ResultMessage extends BatchMessage {
  taskId: string;
  /** The name of the attempt. */
  name: string;
}

const LINGER_MS = 5;

interface Waiting {
  message: ResultMessage;
  resolve(): void;
  reject(error: unknown): void;
}

export class ResultBatches {
  #waiting: Waiting[] = [];
  #bytes = 0;
  #unconfirmed = 0;
  #timer: NodeJS.Timeout | undefined;

  /** `publish` resolves when the broker confirms. */
  constructor(private readonly publish: (messages: readonly ResultMessage[]) => Promise<void>) {}

  /** Resolves when the broker confirms the result; rejects with the error of the publish. */
  async send(message: ResultMessage): Promise<void> {
    const bytes = message.body.length;
    if (this.#bytes + bytes > MAX_BATCH_BYTES) this.#flush();
    const confirmed = new Promise<void>((resolve, reject) => this.#waiting.push({ message, resolve, reject }));
    this.#bytes += bytes;
    const isFull = this.#waiting.length === MAX_BATCH_MESSAGES || this.#bytes >= MAX_BATCH_BYTES;
    if (this.#unconfirmed === 0 || isFull) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), LINGER_MS);
    await confirmed;
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#waiting.length === 0) return;
    const batch = this.#waiting;
    this.#waiting = [];
    this.#bytes = 0;
    this.#unconfirmed++;
    const settle = (each: (one: Waiting) => void): void => {
      batch.forEach(each);
      if (--this.#unconfirmed === 0) this.#flush();
    };
    this.publish(batch.map(({ message }) => message)).then(
      () => settle((one) => one.resolve()),
      (error: unknown) => settle((one) => one.reject(error)),
    );
  }
}
