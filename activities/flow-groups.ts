import type { ComputeTask } from '../flows/compute';

/** Tasks of an action that go into the same submissions, because they call the same function on the same endpoint. */
export interface TaskGroup {
  endpoint: string;
  function: string;
  tasks: ComputeTask[];
  /** The position of each task in the action. */
  places: number[];
}

/** Deterministic: equal tasks give equal groups in the same order. */
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
