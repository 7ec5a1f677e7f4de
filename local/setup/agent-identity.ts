import { randomBytes, randomUUID } from 'node:crypto';
import { join } from 'node:path';

import { readJson, writeJson } from '../machine/files';
import { endpointDirOf, readEndpointId } from './agent-folder';

import type { Layout } from '../machine/layout';

/** The agent of `up` may only register its own endpoint, so code that reads its secrets gains no rights over the service. */

export interface Credentials {
  client_id: string;
  client_secret: string;
}

/** Content of the file that FUNCX_BOOTSTRAP_AGENT_FILE names. */
export interface AgentIdentity extends Credentials {
  endpoint_id: string;
  /** Whether the endpoint may be public. */
  public: boolean;
}

const SECRET_BYTES = 32;
/** The endpoint ID that funcX 1.0 tutorials and talks use. In a self-hosted system it is the local endpoint. */
export const TUTORIAL_ENDPOINT = '4b116d3c-1703-4f8f-9f6f-39921e5864df';

const fileOf = (layout: Layout, name: string): string => join(layout.secretsDir, `agent-${name}.json`);

/** Creates the identity at the first start. The endpoint keeps the ID in its folder. */
export function ensureAgentIdentity(layout: Layout, name: string, isPublic: boolean): { file: string; identity: AgentIdentity } {
  const file = fileOf(layout, name);
  const known = readJson(file) as AgentIdentity | undefined;
  // In a shared database, the tutorial endpoint may already exist.
  const newId = process.env.DATABASE_URL ? randomUUID() : TUTORIAL_ENDPOINT;
  const identity: AgentIdentity = {
    client_id: known?.client_id ?? randomUUID(),
    client_secret: known?.client_secret ?? randomBytes(SECRET_BYTES).toString('hex'),
    endpoint_id: readEndpointId(endpointDirOf(layout, name)) ?? known?.endpoint_id ?? newId,
    public: isPublic,
  };
  writeJson(file, identity);
  return { file, identity };
}
