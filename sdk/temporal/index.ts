/** The plugin for Temporal clients and workers. Workflow code imports `@funcx-temporal/sdk/workflow` instead. */
export { FuncXPlugin, type FuncXPluginOptions } from './plugin';
export type { ServiceOptions } from './register-pipeline';
