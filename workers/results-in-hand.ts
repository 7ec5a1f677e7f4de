/**
 * The tasks whose results this process has received and not acknowledged yet. While the store refuses them they are on no queue,
 * and their agent does not name them any more: they are not lost.
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
