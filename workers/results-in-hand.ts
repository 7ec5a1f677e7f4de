/**
 * The tasks whose results this process has received but not acknowledged. While the store is unavailable, no queue holds these
 * results and the agent's heartbeats no longer name their tasks. The tasks are not lost.
 */
export class ResultsInHand {
  readonly #counts = new Map<string, number>();

  add(taskId: string): void {
    this.#counts.set(taskId, (this.#counts.get(taskId) ?? 0) + 1);
  }

  remove(taskId: string): void {
    const left = (this.#counts.get(taskId) ?? 0) - 1;
    if (left > 0) this.#counts.set(taskId, left);
    else this.#counts.delete(taskId);
  }

  has(taskId: string): boolean {
    return this.#counts.has(taskId);
  }
}
