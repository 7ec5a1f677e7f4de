import type { Definition } from '../flows/definition';
import type { Json, JsonObject } from '../flows/values';
import type { Database } from '../platform/store/database';
import { readRunStart } from '../platform/store/flow-run-inputs';

/** What does not change during a run: its definition, input and owner. Each process reads a run once. */

export interface Run {
  runId: string;
  ownerId: string;
  /** URN of the owner. */
  creator: string;
  title: string;
  definition: Definition;
  input: Json;
  /** At `$._context`. */
  context: JsonObject;
}

export interface Runs {
  read(runId: string): Promise<Run>;
}

const MAX_REMEMBERED = 200;
const TOKEN_LIFE_S = 172_800;

export function createRuns(db: Database): Runs {
  const known = new Map<string, Run>();
  return {
    async read(runId) {
      const found = known.get(runId);
      if (found) return found;
      const start = await readRunStart(db, runId);
      if (!start) throw new Error(`run ${runId} is not in the store; it may have been removed after its retention time`);
      const creator = `urn:globus:auth:identity:${start.ownerId}`;
      const username = `${start.ownerId}@clients.auth.globus.org`;
      const issued = Math.floor(Date.parse(start.startTime) / 1_000);
      const run: Run = {
        runId,
        ownerId: start.ownerId,
        creator,
        title: start.title,
        definition: start.definition as Definition, // validated when the flow was created
        input: start.input as Json,
        context: {
          flow_id: start.flowId,
          run_id: runId,
          username,
          email: username,
          user_id: creator,
          identities: [creator],
          token_info: { exp: issued + TOKEN_LIFE_S, iat: issued, nbf: issued },
        },
      };
      if (known.size >= MAX_REMEMBERED) known.clear();
      known.set(runId, run);
      return run;
    },
  };
}
