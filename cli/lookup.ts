import { isUuid, taskIdOf, taskIndexOf } from '../contracts/ids';
import { UserError } from '../local/machine/user-error';

import type { Client, TasksOf } from '../sdk/index';

/** Finds the id that a person means by a name, an id or the first characters of an id. */

interface Named {
  id: string;
  name: string;
}

/** A shorter text is more likely a name. */
const ID_START = /^[0-9a-f]{4}[0-9a-f-]{0,32}$/i;
const MAX_NAMES = 20;

/** Finds the id of an endpoint: your newest endpoint with this name, else an endpoint that is shared with you. */
export async function findEndpoint(client: Client, wanted: string): Promise<string> {
  if (isUuid(wanted.toLowerCase())) return wanted.toLowerCase();
  const toNamed = ({ uuid, name }: { uuid: string; name: string }): Named => ({ id: uuid, name });
  const own = (await client.endpoints()).map(toNamed).reverse(); // the service lists the oldest first
  const found = newest(wanted, own);
  if (found !== undefined) return found;
  const all = (await client.endpoints({ role: 'any' })).map(toNamed);
  return theOne('endpoint', wanted, all);
}

/** Finds the id of your newest function with this name. */
export async function findFunction(client: Client, wanted: string): Promise<string> {
  if (isUuid(wanted.toLowerCase())) return wanted.toLowerCase();
  const own = (await client.functions()).map(({ function_uuid: id, function_name: name }) => ({ id, name }));
  return newest(wanted, own) ?? theOne('function', wanted, own);
}

export async function findGroup(client: Client, wanted: string): Promise<string> {
  if (isUuid(wanted.toLowerCase())) return wanted.toLowerCase();
  return theOne('group', wanted, await client.groups());
}

export async function findSubmission(client: Client, wanted: string): Promise<string> {
  const id = wanted.toLowerCase();
  if (isUuid(id)) return id;
  const found = (await client.submissions({ prefix: id, limit: MAX_NAMES })).map(({ submission_id: one }) => one);
  return theOnly('submission', wanted, found);
}

/** Finds the id of a task. Accepts the whole id, `<submission>/<index>`, or a submission of one task. */
export async function findTask(client: Client, wanted: string): Promise<string> {
  const id = wanted.toLowerCase();
  if (isUuid(id) && !isSubmissionId(id)) return id;
  const [start = '', index] = id.split('/', 2);
  const submissionId = await findSubmission(client, start);
  if (index !== undefined) {
    return taskIdOf(submissionId, Number(index));
  }
  const { total } = await client.submission(submissionId);
  if (total === 1) return taskIdOf(submissionId, 1);
  throw new UserError(
    `${wanted} is a submission of ${total} tasks; say which, from ${start}/1 to ${start}/${total}, or list them: funcx task list --submission ${start}`,
  );
}

/** Finds a submission, a task group or a task by its id, submissions and task groups also by the start of the id. */
export async function findWork(client: Client, wanted: string): Promise<TasksOf | { taskId: string }> {
  const id = wanted.toLowerCase();
  if (id.includes('/')) return { taskId: await findTask(client, id) };
  if (isUuid(id)) return isOurs(id) ? (isSubmissionId(id) ? { submissionId: id } : { taskId: id }) : { taskGroupId: id };
  const submissions = (await client.submissions({ prefix: id, limit: MAX_NAMES })).map(({ submission_id: one }) => one);
  if (submissions.length > 0) return { submissionId: theOnly('submission', wanted, submissions) };
  const recent = await client.submissions({ limit: 1_000 });
  const groups = [...new Set(recent.map(({ task_group_id: group }) => group).filter((group) => group.startsWith(id)))];
  return { taskGroupId: theOnly('submission or task group', wanted, groups) };
}

/** Submissions and tasks have IDs of version 8. */
const isOurs = (id: string): boolean => id[14] === '8';
const isSubmissionId = (id: string): boolean => isOurs(id) && taskIndexOf(id) === 0;

function theOnly(kind: string, wanted: string, ids: readonly string[]): string {
  const [first] = ids;
  if (first === undefined) throw new UserError(`You have no ${kind} whose id starts with "${wanted}".`);
  if (ids.length > 1) throw new UserError(`"${wanted}" is the start of ${ids.length} ids; give more of it: ${ids.join(', ')}.`);
  return first;
}

/** Returns the first entry with this name. The list starts with the newest entry. */
const newest = (wanted: string, candidates: readonly Named[]): string | undefined =>
  candidates.find(({ name }) => name === wanted)?.id;

function theOne(kind: string, wanted: string, candidates: readonly Named[]): string {
  const found = candidates.filter(({ name }) => name === wanted);
  const [only] = found;
  if (only !== undefined && found.length === 1) return only.id;
  if (found.length > 1) {
    const ids = found.map(({ id }) => id).slice(0, MAX_NAMES);
    throw new UserError(`${found.length} ${kind}s are named "${wanted}"; give the id: ${ids.join(', ')}.`);
  }
  const starting = ID_START.test(wanted) ? candidates.filter(({ id }) => id.startsWith(wanted.toLowerCase())) : [];
  if (starting.length > 0)
    return theOnly(
      kind,
      wanted,
      starting.map(({ id }) => id),
    );
  const known = [...new Set(candidates.map(({ name }) => name))].slice(0, MAX_NAMES).join(', ');
  throw new UserError(`There is no ${kind} named "${wanted}"${known === '' ? '' : `; there are: ${known}`}.`);
}
