/**
 * A running agent of 1.0.2 to 1.0.6 whose place was taken asks again for ever, 10 to 300 s apart, and logs no error of the
 * service, but it does log every good answer. So who is refused once more is told by a good answer that has no queues: its
 * log then says why, and it goes on asking as it would after an error. Known to one process only: this is a courtesy.
 */
export interface RefusedAgents {
  /** Notes a refusal. True where it repeats an earlier one at the pace of such an agent. */
  isRepeated(endpointId: string): boolean;
}

const RETRY_MS = { shortest: 8_000, longest: 400_000 };

export function createRefusedAgents(now: () => number = Date.now): RefusedAgents {
  const refusedAt = new Map<string, number>();

  function forgetOld(): void {
    for (const [id, at] of refusedAt) {
      if (now() - at < RETRY_MS.longest) return; // the rest is younger
      refusedAt.delete(id);
    }
  }

  return {
    isRepeated(endpointId) {
      forgetOld();
      const before = refusedAt.get(endpointId);
      refusedAt.delete(endpointId); // to be the youngest
      refusedAt.set(endpointId, now());
      return before !== undefined && now() - before >= RETRY_MS.shortest;
    },
  };
}
