import { FlowsError, type FlowsErrorDetail } from './errors';
import { MAX_COMPILE_MS, MAX_MS } from './schema-jobs';
import { runSchemaJob } from './schema-threads';

/** Checks inputs of runs. Every step is bounded in time, and in a thread of its own, because any user may write a schema. */

export async function schemaProblems(ownerId: string, schema: unknown): Promise<FlowsErrorDetail[]> {
  const answer = await runSchemaJob(ownerId, { kind: 'schema', schema });
  if (answer !== 'late') return answer.details;
  return [
    {
      loc: ['input_schema'],
      msg: `reading the schema took longer than ${MAX_COMPILE_MS} ms; simplify it`,
      type: 'value_error',
    },
  ];
}

/** Throws FLOW_INPUT_ERROR with each mistake at its path. */
export async function checkInput(ownerId: string, schema: unknown, input: unknown): Promise<void> {
  const answer = await runSchemaJob(ownerId, { kind: 'input', schema, input });
  if (answer === 'late') {
    const msg = `the check against the input schema took longer than ${MAX_MS} ms; simplify the schema's patterns`;
    throw new FlowsError('FLOW_INPUT_ERROR', [{ loc: ['$'], msg, type: 'InvalidActionInput' }], msg);
  }
  const { count, details } = answer;
  if (count === 0) return;
  const message = `Input failed schema validation with ${count} error${count === 1 ? '' : 's'}.`;
  throw new FlowsError('FLOW_INPUT_ERROR', details, message);
}
