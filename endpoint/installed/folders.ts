import fs from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';

import { z } from 'zod';

import { TerminalError } from '../../contracts/errors';

/** The folder of the installed agents, with one folder for each enrolled endpoint, and the files in these folders. */

const identitySchema = z.object({
  api_url: z.string(),
  endpoint_id: z.string(),
  name: z.string(),
  client_id: z.string(),
  client_secret: z.string(),
});
/** The identity of the agent. It permits serving this endpoint and nothing else. */
export type AgentIdentity = z.infer<typeof identitySchema>;

const settingsSchema = z.object({
  /** Path of the Python for functions. Without `python` and `requirements`, functions run in a default environment. */
  python: z.string().optional(),
  /** Text of a requirements file. */
  requirements: z.string().optional(),
  workers: z.number().optional(),
});
/** Options of a start, which are remembered for later starts. */
export type AgentSettings = z.infer<typeof settingsSchema>;

const draftSchema = z.object({ code_sha256: z.string(), client_id: z.string(), client_secret: z.string() });
/** The request to enrol. It is kept until the service has responded, so that a lost response loses nothing. */
export type EnrolmentDraft = z.infer<typeof draftSchema>;

const FILES = { identity: 'identity.json', settings: 'settings.json', draft: 'enrolment.json' } as const;

export const homeOf = (env: NodeJS.ProcessEnv = process.env): string =>
  path.resolve(env.FUNCX_ENDPOINT_HOME ?? path.join(homedir(), '.funcx-endpoint'));
export const dirOf = (name: string): string => path.join(homeOf(), name);
export const logOf = (name: string): string => path.join(dirOf(name), 'agent.log');
export const authorityFileOf = (name: string): string => path.join(dirOf(name), 'service-ca.pem');

export function listNames(): string[] {
  const home = homeOf();
  if (!fs.existsSync(home)) return [];
  return fs
    .readdirSync(home)
    .filter((name) => fs.existsSync(path.join(home, name, FILES.identity)))
    .sort();
}

/** Returns the name of an enrolled endpoint; without a name, of the only one. Throws if there is no match. */
export function requireName(wanted: string | undefined): string {
  const names = listNames();
  if (wanted !== undefined && names.includes(wanted)) return wanted;
  const known = names.length === 0 ? '' : ` Known here: ${names.join(', ')}.`;
  if (wanted === undefined && names.length === 1) return names[0] ?? '';
  if (wanted === undefined && names.length > 1) throw new TerminalError('INVALID_REQUEST', `Name one endpoint.${known}`);
  throw new TerminalError(
    'INVALID_REQUEST',
    `${wanted === undefined ? 'No agent' : `No agent of endpoint ${wanted}`} is enrolled here.${known} Ask the owner of the endpoint to run "funcx endpoint invite ${wanted ?? 'NAME'}", and enrol with the code.`,
  );
}

export function readIdentity(name: string): AgentIdentity | undefined {
  return read(name, FILES.identity, identitySchema);
}

export function readSettings(name: string): AgentSettings {
  return read(name, FILES.settings, settingsSchema) ?? {};
}

export function readDraft(name: string): EnrolmentDraft | undefined {
  return read(name, FILES.draft, draftSchema);
}

export const writeSettings = (name: string, settings: AgentSettings): void => write(name, FILES.settings, json(settings));
export const writeDraft = (name: string, draft: EnrolmentDraft): void => write(name, FILES.draft, json(draft));

/** Completes the enrolment: writes the agent's identity and removes the draft. */
export function writeIdentity(name: string, identity: AgentIdentity, authority: string | undefined): void {
  if (authority === undefined) fs.rmSync(authorityFileOf(name), { force: true });
  else write(name, path.basename(authorityFileOf(name)), authority);
  write(name, FILES.identity, json(identity));
  fs.rmSync(path.join(dirOf(name), FILES.draft), { force: true });
}

const json = (value: object): string => `${JSON.stringify(value)}\n`;

function read<T>(name: string, file: string, schema: z.ZodType<T>): T | undefined {
  const at = path.join(dirOf(name), file);
  if (!fs.existsSync(at)) return undefined;
  try {
    return schema.parse(JSON.parse(fs.readFileSync(at, 'utf8')));
  } catch (cause) {
    throw new TerminalError('INVALID_REQUEST', `${at} is damaged; remove it, and enrol with a new code.`, { cause });
  }
}

/** Replaces a file atomically: readers see the old content or the new content. Only the agent's user can read it. */
function write(name: string, file: string, text: string): void {
  const dir = dirOf(name);
  fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
  const draft = path.join(dir, `${file}.${process.pid}.new`);
  fs.writeFileSync(draft, text, { mode: 0o600 });
  fs.renameSync(draft, path.join(dir, file));
}
