import { setTimeout as sleep } from 'node:timers/promises';

import type { FunctionSource } from '../workflow/functions';

/** The one request that the plugin makes of the service, with patience: a worker may start before the service. */

export interface ServiceOptions {
  /** Default: FUNCX_API_URL, else http://localhost:5000. */
  apiUrl?: string;
  /** Default: FUNCX_CLIENT_ID. */
  clientId?: string;
  /** Default: FUNCX_CLIENT_SECRET. */
  clientSecret?: string;
}

const SCOPE = 'https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all';
const REQUEST_MS = 30_000;
const PATIENCE_MS = 120_000;
const RETRY_MS = 1_000;

export interface Registration {
  namespace: string;
  taskQueue: string;
  functions: readonly FunctionSource[];
}

/** Throws an error that says what to do when the service refuses. */
export async function registerPipeline(options: ServiceOptions, { taskQueue, ...body }: Registration): Promise<void> {
  const { apiUrl, clientId, clientSecret } = completed(options);
  const endMs = Date.now() + PATIENCE_MS;
  const basic = `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`;
  const form = new URLSearchParams({ grant_type: 'client_credentials', scope: SCOPE });
  const grant = (await send(
    apiUrl,
    '/v2/oauth2/token',
    { method: 'POST', headers: { authorization: basic }, body: form },
    endMs,
  )) as {
    access_token: string;
  };
  const headers = { authorization: `Bearer ${grant.access_token}`, 'content-type': 'application/json' };
  const path = `/v1/pipelines/${encodeURIComponent(taskQueue)}`;
  await send(apiUrl, path, { method: 'PUT', headers, body: JSON.stringify(body) }, endMs);
}

function completed(options: ServiceOptions): Required<ServiceOptions> {
  const { FUNCX_API_URL, FUNCX_CLIENT_ID, FUNCX_CLIENT_SECRET } = process.env;
  const {
    apiUrl = FUNCX_API_URL ?? 'http://localhost:5000',
    clientId = FUNCX_CLIENT_ID,
    clientSecret = FUNCX_CLIENT_SECRET,
  } = options;
  if (!clientId || !clientSecret) {
    throw new Error(
      'FuncXPlugin needs clientId and clientSecret, or FUNCX_CLIENT_ID and FUNCX_CLIENT_SECRET ("funcx env" prints them)',
    );
  }
  return { apiUrl: apiUrl.replace(/\/$/, ''), clientId, clientSecret };
}

async function send(apiUrl: string, path: string, init: RequestInit, endMs: number): Promise<unknown> {
  for (;;) {
    let reason: string;
    try {
      const answer = await fetch(apiUrl + path, { ...init, signal: AbortSignal.timeout(REQUEST_MS) });
      const text = await answer.text();
      if (answer.ok) return JSON.parse(text) as unknown;
      reason = `it answered ${answer.status}: ${text.slice(0, 500)}`;
      if (answer.status < 500 && answer.status !== 429)
        throw new Refused(`the funcX service at ${apiUrl} refused ${path}; ${reason}`);
    } catch (error) {
      if (error instanceof Refused) throw error;
      reason = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    }
    if (Date.now() > endMs) throw new Error(`the funcX service at ${apiUrl} does not answer; is it running? (${reason})`);
    await sleep(RETRY_MS);
  }
}

class Refused extends Error {}
