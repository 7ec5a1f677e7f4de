/** More agents than these are forgotten at once, and measured anew. */
const MAX_AGENTS = 10_000;

/**
 * How late a heartbeat arrives, without trusting the agent's clock: later than the fastest heartbeat of the same agent. The
 * first heartbeat of an agent counts as punctual.
 */
export class Lateness {
  readonly #leastOffsetMs = new Map<string, number>();

  /** `sentMs` by the agent's clock; undefined where the agent does not say. */
  measure(agent: string, sentMs: number | undefined, nowMs: number): number {
    if (sentMs === undefined) return 0;
    const offsetMs = nowMs - sentMs;
    const leastMs = Math.min(offsetMs, this.#leastOffsetMs.get(agent) ?? Infinity);
    if (!this.#leastOffsetMs.has(agent) && this.#leastOffsetMs.size >= MAX_AGENTS) this.#leastOffsetMs.clear();
    this.#leastOffsetMs.set(agent, leastMs);
    return offsetMs - leastMs;
  }
}
