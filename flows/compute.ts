import { FLOW_ERROR } from '../contracts/flows';
import { FlowError } from './errors';
import type { Provider } from './providers';
import { isJsonObject, isReference, type Json, type JsonObject } from './values';

/** Bodies of Compute actions, of each of their versions, as calls; and what such an action returns into the state. */

export interface ComputeTask {
  endpoint: string;
  function: string;
  args: Json[];
  kwargs: JsonObject;
}

export interface ComputeAction {
  tasks: ComputeTask[];
  resourceSpecification?: JsonObject;
  userEndpointConfig?: JsonObject;
}

const MAX_TASKS = 5_000;

/** Throws an `ActionUnableToRun` that says what is wrong in the body. */
export function readComputeBody(provider: Provider, body: Json): ComputeAction {
  if (!isJsonObject(body)) throw refused('the body of a Compute action is an object');
  const action = provider === 'compute-v3' ? readV3(body) : { tasks: readV2(body) };
  if (action.tasks.length === 0) throw refused('tasks is empty; a Compute action needs at least one task');
  if (action.tasks.length > MAX_TASKS) throw refused(`there are ${action.tasks.length} tasks, the limit is ${MAX_TASKS}`);
  return action;
}

function readV3(body: JsonObject): ComputeAction {
  const endpoint = requireText(body.endpoint_id, 'endpoint_id');
  const tasks = requireList(body.tasks, 'tasks').map((task, at) => {
    if (!isJsonObject(task)) throw refused(`tasks[${at}] is an object with function_id, args and kwargs`);
    const args = task.args ?? [];
    const kwargs = task.kwargs ?? {};
    if (!Array.isArray(args)) throw refused(`tasks[${at}].args is a list`);
    if (!isJsonObject(kwargs)) throw refused(`tasks[${at}].kwargs is an object`);
    return { endpoint, function: requireText(task.function_id, `tasks[${at}].function_id`), args, kwargs };
  });
  return {
    tasks,
    ...optionalObject('resourceSpecification', body.resource_specification, 'resource_specification'),
    ...optionalObject('userEndpointConfig', body.user_endpoint_config, 'user_endpoint_config'),
  };
}

function optionalObject<K extends string>(key: K, value: Json | undefined, name: string): { [key in K]?: JsonObject } {
  if (value === undefined || value === null) return {};
  if (!isJsonObject(value)) throw refused(`${name} is an object`);
  return { [key]: value } as { [key in K]?: JsonObject };
}

/** One task at the top, or a list of tasks, or both. */
function readV2(body: JsonObject): ComputeTask[] {
  const listed = body.tasks === undefined || body.tasks === null ? [] : requireList(body.tasks, 'tasks');
  const tasks = listed.map((task, at) => {
    if (!isJsonObject(task)) throw refused(`tasks[${at}] is an object with endpoint, function and payload`);
    return readTask(task, `tasks[${at}].`);
  });
  const hasOwn = body.function !== undefined || body.func !== undefined;
  if (!hasOwn && tasks.length === 0) throw refused('the body has neither tasks nor a function');
  return hasOwn ? [readTask(body, ''), ...tasks] : tasks;
}

function readTask(task: JsonObject, where: string): ComputeTask {
  const payload = parsed(task.payload ?? null);
  const kwargs = parsed(task.kwargs ?? null) ?? payload ?? {};
  const args = parsed(task.args ?? null) ?? [];
  // A payload that is not an object is the one argument.
  const isPayloadArgument = task.kwargs === undefined && payload !== null && (!isJsonObject(payload) || isReference(payload));
  const named = isPayloadArgument ? {} : kwargs;
  if (!isJsonObject(named)) throw refused(`${where}kwargs is an object`);
  const list = Array.isArray(args) ? args : [args];
  return {
    endpoint: requireText(task.endpoint, `${where}endpoint`),
    function: requireText(task.function ?? task.func, `${where}function`),
    args: isPayloadArgument ? [...list, payload] : list,
    kwargs: named,
  };
}

/** The second version documents strings of JSON; programs send JSON. */
function parsed(value: Json): Json {
  if (typeof value !== 'string' || !/^\s*[[{]/.test(value)) return value;
  try {
    return JSON.parse(value) as Json;
  } catch {
    return value;
  }
}

function requireText(value: Json | undefined, name: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw refused(`${name} is missing, or is not a string`);
}

function requireList(value: Json | undefined, name: string): Json[] {
  if (Array.isArray(value)) return value;
  throw refused(`${name} is missing, or is not a list`);
}

const refused = (message: string): FlowError => new FlowError(FLOW_ERROR.unableToRun, message);

export interface ActionStatus extends JsonObject {
  action_id: string;
  status: string;
  details: Json;
}

/** What an action returns into the state, in the words of the action-provider interface. */
export function actionStatus(given: {
  actionId: string;
  status: 'ACTIVE' | 'SUCCEEDED' | 'FAILED';
  stateName: string;
  creator: string;
  startTime: string;
  completionTime: string | null;
  details: Json;
}): ActionStatus {
  return {
    action_id: given.actionId,
    status: given.status,
    display_status: given.status,
    state_name: given.stateName,
    creator_id: given.creator,
    label: null,
    manage_by: [],
    monitor_by: [],
    release_after: 'P30D',
    start_time: given.startTime,
    completion_time: given.completionTime,
    details: given.details,
  };
}
