import { CancellationScope, isCancellation, sleep } from '@temporalio/workflow';

/** A timer that can be set repeatedly. Each setting has its own summary in the Temporal UI. */
export class Alarm {
  #scope: CancellationScope | undefined;
  #atMs: number | undefined;

  constructor(private readonly onRing: () => void) {}

  get isSet(): boolean {
    return this.#atMs !== undefined;
  }

  /** `atMs`: Unix milliseconds. Setting the same time again keeps the existing timer. */
  set(atMs: number, summary: string): void {
    if (this.#atMs === atMs) return;
    this.clear();
    this.#atMs = atMs;
    const scope = new CancellationScope();
    this.#scope = scope;
    void scope
      .run(() => sleep(Math.max(atMs - Date.now(), 1), { summary }))
      .then(() => {
        if (this.#scope !== scope) return;
        this.#atMs = undefined;
        this.#scope = undefined;
        this.onRing();
      })
      .catch((error: unknown) => {
        if (!isCancellation(error)) throw error;
      });
  }

  clear(): void {
    this.#scope?.cancel();
    this.#scope = undefined;
    this.#atMs = undefined;
  }
}
