/** When more agents than this are known, all are forgotten and measured again. */
const MAX_AGENTS = 10_000;

/** How late heartbeats are, compared with the fastest of the same agent: its clock need not be right. The first is punctual. */
export class Lateness {
  readonly #leastOffsetMs = new Map<string, number>();

  /** `sentMs`: by the agent's clock; undefined if the agent does not report it. */
  measure(agent: string, sentMs: number | undefined, nowMs: number): number {
    if (sentMs === undefined) return 0;
    const offsetMs = nowMs - sentMs;
    const leastMs = Math.min(offsetMs, this.#leastOffsetMs.get(agent) ?? Infinity);
    if (!this.#leastOffsetMs.has(agent) && this.#leastOffsetMs.size >= MAX_AGENTS) this.#leastOffsetMs.clear();
    this.#leastOffsetMs.set(agent, leastMs);
    return offsetMs - leastMs;
  }
}
