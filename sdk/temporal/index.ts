/** The plugin for Temporal clients and workers. Workflow code imports `@funcx-temporal/sdk/workflow`. */
export { FuncXPlugin, type FuncXPluginOptions } from './plugin';
export type { ServiceOptions } from './service';
