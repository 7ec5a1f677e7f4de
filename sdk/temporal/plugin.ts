import type { ClientOptions, ClientPlugin } from '@temporalio/client';
import type { ReplayWorkerOptions, Worker, WorkerOptions, WorkerPlugin } from '@temporalio/worker';

import { createPayloadCodec, readPayloadKeys } from '../../client/payload-codec';

import type { FunctionSource, RemoteFunction } from '../workflow/functions';
import { registerPipeline, type ServiceOptions } from './register-pipeline';

export interface FuncXPluginOptions extends ServiceOptions {
  /** Functions to register when the worker starts. May be all exports of a module; other exports are ignored. */
  functions?: readonly RemoteFunction<never, unknown>[] | Readonly<Record<string, unknown>>;
  /** Key file of the service, which encrypts payloads in Temporal's histories. Default: FUNCX_PAYLOAD_KEYS_FILE. */
  payloadKeysFile?: string;
}

type Options = Omit<ClientOptions, 'plugins'>;
type DataConverter = NonNullable<ClientOptions['dataConverter']>;

/**
 * Connects a pipeline to the service: `plugins: [new FuncXPlugin({ functions })]` on the client and on the worker. When the
 * worker starts, the plugin registers the functions, and from then on calls of workflows on the worker's task queue act as the
 * plugin's identity. The credentials stay in this process; no secret enters a workflow.
 */
export class FuncXPlugin implements ClientPlugin, WorkerPlugin {
  readonly name = 'funcx-temporal.FuncXPlugin';
  readonly #options: FuncXPluginOptions;
  #target: { namespace: string; taskQueue: string } | undefined;

  constructor(options: FuncXPluginOptions = {}) {
    this.#options = options;
  }

  configureClient(options: Options): Options {
    return this.#withCodec(options);
  }

  configureWorker(options: WorkerOptions): WorkerOptions {
    this.#target = { namespace: options.namespace ?? 'default', taskQueue: options.taskQueue };
    return this.#withCodec(options);
  }

  configureReplayWorker(options: ReplayWorkerOptions): ReplayWorkerOptions {
    return this.#withCodec(options);
  }

  /** Appends the codec, so that it encrypts the output of the author's own codecs. */
  #withCodec<T extends { dataConverter?: DataConverter }>(options: T): T {
    const file = this.#options.payloadKeysFile ?? process.env.FUNCX_PAYLOAD_KEYS_FILE;
    if (!file) return options;
    const codec = createPayloadCodec({ keys: readPayloadKeys(file) });
    const { dataConverter } = options;
    return { ...options, dataConverter: { ...dataConverter, payloadCodecs: [...(dataConverter?.payloadCodecs ?? []), codec] } };
  }

  async runWorker(worker: Worker, next: (worker: Worker) => Promise<void>): Promise<void> {
    const target = this.#target ?? { namespace: worker.options.namespace, taskQueue: worker.options.taskQueue };
    await registerPipeline(this.#options, { ...target, functions: declaredIn(this.#options.functions ?? []) });
    await next(worker);
  }
}

function declaredIn(given: NonNullable<FuncXPluginOptions['functions']>): FunctionSource[] {
  const found = Object.values(given).flatMap((value: unknown) =>
    typeof value === 'object' && value !== null && 'declared' in value ? [value.declared as FunctionSource | undefined] : [],
  );
  return found.filter((declared) => declared !== undefined);
}
