import { resolveOptions, ServiceHttp, type ClientOptions } from '../../client';

import type { FunctionSource } from '../workflow/functions';

export type ServiceOptions = Pick<ClientOptions, 'apiUrl' | 'clientId' | 'clientSecret' | 'ca'>;

const DEFAULT_API_URL = 'http://localhost:5000';
/** How long to wait for the service, because a worker may start before the service. */
const RETRY_FOR_MS = 120_000;

export interface Registration {
  namespace: string;
  taskQueue: string;
  functions: readonly FunctionSource[];
}

/** Registers the pipeline's functions and task queue. If the service refuses, throws an error with the service's message. */
export async function registerPipeline(options: ServiceOptions, { taskQueue, ...body }: Registration): Promise<void> {
  const apiUrl = options.apiUrl ?? (process.env.FUNCX_API_URL || DEFAULT_API_URL);
  const http = new ServiceHttp({ ...resolveOptions({ ...options, apiUrl }), retryForMs: RETRY_FOR_MS });
  try {
    await http.request({ method: 'PUT', path: `/v1/pipelines/${encodeURIComponent(taskQueue)}`, body });
  } finally {
    http.close();
  }
}
