import { withClient } from './connection';
import { addCommonOptions, print, printJson } from './output';

import type { Command } from 'commander';

import type { CommonOptions } from './output';

interface RegisterOptions extends CommonOptions {
  namespace: string;
}

/** `pipeline`: sets the identity that the calls of pipelines act as. */
export function addPipelineCommands(program: Command): void {
  const command = program.command('pipeline').description('pipelines: workflows of your own that call functions');
  addCommonOptions(command.command('register').description('let the calls of workflows on a Temporal task queue act as you'))
    .argument('<task queue>', 'the task queue of the workflows')
    .option('--namespace <name>', 'their Temporal namespace', process.env.TEMPORAL_NAMESPACE || 'default')
    .action((taskQueue: string, options: RegisterOptions) => register(taskQueue, options));
}

async function register(taskQueue: string, options: RegisterOptions): Promise<void> {
  const path = `/v1/pipelines/${encodeURIComponent(taskQueue)}`;
  const body = { namespace: options.namespace, functions: [] };
  const answer = await withClient(options, (client) => client.request({ method: 'PUT', path, body }));
  if (options.json === true) printJson(answer);
  else print(`Calls of workflows on the task queue ${taskQueue} of namespace ${options.namespace} act as you from now on.`);
}
