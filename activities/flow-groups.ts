import type { ComputeTask } from '../flows/compute';

/** Tasks of an action that go into the same submissions: those of one function on one endpoint. */
export interface TaskGroup {
  endpoint: string;
  function: string;
  tasks: ComputeTask[];
  /** Where each of them stands in the action. */
  places: number[];
}

/** The same order for the same tasks. */
export function groupTasks(tasks: readonly ComputeTask[]): TaskGroup[] {
  const groups = new Map<string, TaskGroup>();
  tasks.forEach((task, place) => {
    const key = JSON.stringify([task.endpoint, task.function]);
    const group = groups.get(key) ?? { endpoint: task.endpoint, function: task.function, tasks: [], places: [] };
    group.tasks.push(task);
    group.places.push(place);
    groups.set(key, group);
  });
  return [...groups.values()];
}
