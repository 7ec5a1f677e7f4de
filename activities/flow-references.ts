import { FLOW_ERROR } from '../contracts/flows';
import { FlowError } from '../flows';
import type { Json } from '../flows/values';
import type { Database } from '../platform/store/database';
import { readReferable, readOutcomeText } from '../platform/store/pipelines';

/** Loads results that are in the store, for expressions, paths and choices that read them. */

const MAX_LOADED_BYTES = 128 * 1024 * 1024;

export function createReferences(db: Database): { load(ownerId: string, taskId: string): Promise<Json> } {
  return {
    async load(ownerId, taskId) {
      const bytes = (await readReferable(db, ownerId, [taskId])).get(taskId);
      if (bytes === undefined) {
        throw new FlowError(
          FLOW_ERROR.runtime,
          `the referenced result of task ${taskId} no longer exists, or belongs to another identity`,
        );
      }
      if (bytes > MAX_LOADED_BYTES) {
        throw new FlowError(
          FLOW_ERROR.dataLimit,
          `the result of task ${taskId} has ${bytes} bytes, too many to read in an expression; use a function`,
        );
      }
      const text = await readOutcomeText(db, taskId);
      if (text === undefined) {
        throw new FlowError(
          FLOW_ERROR.runtime,
          `the result of task ${taskId} is not JSON, so only another Compute action can read it; return plain values from the function`,
        );
      }
      return JSON.parse(text) as Json;
    },
  };
}
