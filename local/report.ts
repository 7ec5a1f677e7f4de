import { DEFAULT_DATA_DIR, REPOSITORY } from './machine/layout';

import type { PortName } from './machine/ports';
import type { SystemState } from './setup/state';

/** What `up` prints when the system is ready: the greeting and all addresses. Prints the paths of secrets, never a secret. */
export function reportOf(state: SystemState, moved: ReadonlyMap<PortName, number>): string[] {
  const { hello } = state;
  const greeting = hello === null ? [] : ['', `${hello.value}  (task ${hello.task_id}, ${hello.ms} ms)`];
  return [...greeting, '', ...addressesOf(state, moved), ''];
}

/** A table of all addresses, one per line. */
export function addressesOf(state: SystemState, moved: ReadonlyMap<PortName, number> = new Map()): string[] {
  const note = (...names: PortName[]): string =>
    names.flatMap((name) => (moved.has(name) ? [`  (${moved.get(name)} was in use)`] : [])).join('');
  const rows: [string, string][] = [];
  const has = (name: string): boolean => state.services.some((service) => service.name === name);
  if (has('api')) rows.push(['API', state.api_url], ['Results WebSocket', state.ws_url]);
  if (state.temporal_ui_url !== null) {
    // The list of submissions. On a submission's page, the tab "User Metadata" says what the submission waits for.
    const list = (query: string): string =>
      `${state.temporal_ui_url}/namespaces/default/workflows?query=${encodeURIComponent(query)}`;
    const login = loginOf(state.temporal_access?.ui_user, state.temporal_access?.ui_password_file);
    rows.push(['Temporal UI', state.temporal_ui_url + login + note('temporalUi')]);
    if (has('api')) {
      rows.push(
        ['  submissions', list('WorkflowType="submission"')],
        ['  that wait', list('FuncXState="waiting" AND ExecutionStatus="Running"')],
      );
    }
  }
  const certificate = state.temporal_access ? `  with the certificate ${state.temporal_access.certificate_file}` : '';
  rows.push(['Temporal', state.temporal_address + certificate + note('temporal')]);
  const user = loginOf(state.broker_user, state.broker_password_file);
  rows.push(['RabbitMQ management', state.management_url + user + note('management')]);
  rows.push(['RabbitMQ for clients', state.amqp_public_url + note('amqps')]);
  if (moved.has('amqp')) rows.push(['RabbitMQ, inside', `127.0.0.1:${state.ports.amqp}${note('amqp')}`]);
  if (moved.has('postgres')) rows.push(['PostgreSQL', `127.0.0.1:${state.ports.postgres}${note('postgres')}`]);
  if (state.endpoint !== null) rows.push(['Endpoint', `${state.endpoint.name}  ${state.endpoint.id ?? 'without an id'}`]);
  rows.push(['Identity', state.identity_file], ['Logs', state.logs_dir]);
  const dataDir = state.data_dir === DEFAULT_DATA_DIR ? '' : ` --data-dir ${state.data_dir}`;
  const command = process.cwd() === REPOSITORY ? './bin/funcx' : `${REPOSITORY}/bin/funcx`;
  if (has('api')) rows.push(['Point a client at it', `eval "$(${command} env${dataDir})"`]);
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `  ${label.padEnd(width)}  ${value}`);
}

const loginOf = (user?: string | null, passwordFile?: string | null): string =>
  user && passwordFile ? `  user ${user}, password in ${passwordFile}` : '';
