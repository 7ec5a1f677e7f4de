import { ServiceHttp, resolveOptions } from '../client';
import { isUuid } from '../contracts/ids';
import { flowScope, FLOWS_SCOPE } from '../contracts/scopes';
import type { FlowDocument, RunDocument } from '../contracts/http/flows';
import { UserError } from '../local/machine/user-error';

import { clientOptions } from './connection';

/** A client of the Flows routes that the commands use. Each flow has its own scope for starting it. */

export type { FlowDocument, RunDocument };

export interface LogEntry {
  time: string;
  code: string;
  description: string;
  details: Record<string, unknown>;
}

interface Page {
  has_next_page: boolean;
  marker: string | null;
}

const MAX_PAGE = 100;
const MAX_LOG_PAGE = 1_000;

export class FlowsClient {
  readonly #open = new Map<string, ServiceHttp>();

  constructor(private readonly dataDir: string) {}

  #http(scope: string): ServiceHttp {
    const known = this.#open.get(scope);
    if (known) return known;
    const http = new ServiceHttp(resolveOptions({ ...clientOptions(this.dataDir), scope }));
    this.#open.set(scope, http);
    return http;
  }

  close(): void {
    for (const http of this.#open.values()) http.close();
  }

  async create(body: object): Promise<FlowDocument> {
    return (await this.#http(FLOWS_SCOPE).request({ method: 'POST', path: '/flows', body })) as FlowDocument;
  }

  async update(id: string, body: object): Promise<FlowDocument> {
    return (await this.#http(FLOWS_SCOPE).request({ method: 'PUT', path: `/flows/${id}`, body })) as FlowDocument;
  }

  async flows(query: Record<string, string> = {}): Promise<FlowDocument[]> {
    return this.#pages<FlowDocument, 'flows'>('/flows', 'flows', query);
  }

  async runs(query: Record<string, string> = {}): Promise<RunDocument[]> {
    return this.#pages<RunDocument, 'runs'>('/runs', 'runs', query, 1);
  }

  async #pages<T, Name extends string>(path: string, name: Name, query: Record<string, string>, most = Infinity): Promise<T[]> {
    const all: T[] = [];
    let marker: string | null = null;
    for (let page = 0; page < most; page++) {
      const given: Record<string, string> = { ...query, per_page: String(MAX_PAGE), ...(marker === null ? {} : { marker }) };
      const answer = (await this.#http(FLOWS_SCOPE).request({ method: 'GET', path, query: given })) as Page & Record<Name, T[]>;
      all.push(...answer[name]);
      marker = answer.marker;
      if (!answer.has_next_page) break;
    }
    return all;
  }

  /** Finds a flow by its id or title. Prefers the caller's own flows. */
  async findFlow(nameOrId: string): Promise<FlowDocument> {
    if (isUuid(nameOrId.toLowerCase()))
      return (await this.#http(FLOWS_SCOPE).request({ method: 'GET', path: `/flows/${nameOrId.toLowerCase()}` })) as FlowDocument;
    const named = (await this.flows({ filter_title: nameOrId })).filter(({ title }) => title === nameOrId);
    const own = named.filter(({ user_role }) => user_role === 'flow_owner');
    const found = own.length > 0 ? own : named;
    const [flow] = found;
    if (!flow) throw new UserError(`You see no flow with the title "${nameOrId}"; "funcx flow list" shows all that you see.`);
    if (found.length > 1)
      throw new UserError(`${found.length} flows have this title; give the id: ${found.map(({ id }) => id).join(', ')}.`);
    return flow;
  }

  async run(id: string): Promise<RunDocument> {
    return (await this.#http(FLOWS_SCOPE).request({ method: 'GET', path: `/runs/${id}` })) as RunDocument;
  }

  async start(flowId: string, body: object): Promise<RunDocument> {
    return (await this.#http(flowScope(flowId)).request({ method: 'POST', path: `/flows/${flowId}/run`, body })) as RunDocument;
  }

  async cancel(id: string): Promise<RunDocument> {
    return (await this.#http(FLOWS_SCOPE).request({
      method: 'POST',
      path: `/runs/${id}/cancel`,
      mayRepeat: true,
    })) as RunDocument;
  }

  async resume({ run_id: id, flow_id: flowId }: RunDocument): Promise<RunDocument> {
    return (await this.#http(flowScope(flowId)).request({ method: 'POST', path: `/runs/${id}/resume` })) as RunDocument;
  }

  async definitionOf(id: string): Promise<Record<string, unknown>> {
    const answer = await this.#http(FLOWS_SCOPE).request({ method: 'GET', path: `/runs/${id}/definition` });
    return (answer as { definition: Record<string, unknown> }).definition;
  }

  /** The entries after a marker, and the marker of the last one. */
  async log(id: string, after: number): Promise<{ entries: LogEntry[]; next: number }> {
    const query = { limit: String(MAX_LOG_PAGE), ...(after > 0 ? { marker: String(after) } : {}) };
    const { entries } = (await this.#http(FLOWS_SCOPE).request({ method: 'GET', path: `/runs/${id}/log`, query })) as {
      entries: LogEntry[];
    };
    // The log has no gaps: the marker of an entry is its number.
    return { entries, next: after + entries.length };
  }
}

export async function withFlows<T>({ dataDir }: { dataDir: string }, use: (flows: FlowsClient) => Promise<T>): Promise<T> {
  const flows = new FlowsClient(dataDir);
  try {
    return await use(flows);
  } finally {
    flows.close();
  }
}
