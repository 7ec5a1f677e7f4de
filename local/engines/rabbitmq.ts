import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { QUEUE } from '../../contracts/names';
import { keepSecret, writeWhole } from '../machine/files';
import { logFileOf } from '../machine/layout';
import { accepts, refuses } from '../machine/ports';
import { ManagedProcess } from '../processes/managed-process';
import { ensureCertificates } from './certificates';
import { electLeaders, freeQueueName, type NodeControl } from './rabbitmq-control';
import { RabbitmqHealth } from './rabbitmq-health';
import { ensureRabbitmq } from './rabbitmq-install';
import { askManagement } from './rabbitmq-management';

import type { Layout } from '../machine/layout';
import type { Ports } from '../machine/ports';
import type { Program } from '../processes/managed-process';
import type { StartContext } from '../processes/start-context';
import type { TlsFiles } from './certificates';

export const BROKER_USER = 'funcx-admin';
export const VHOST = 'funcx';
const IMAGE = 'rabbitmq:4.1-management';
const READY_MS = 90_000;
const STOP_MS = 40_000;
/** RabbitMQ's default is 128 MiB, and 16 MiB from version 4 on. A body of 10 Mi characters may need 42 MB in a message. */
export const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;
/** Must exceed the longest walltime: RabbitMQ closes a channel (406) if a message stays unacknowledged for longer. */
const CONSUMER_TIMEOUT_MS = 31 * 24 * 3600 * 1000;

export const brokerPasswordFile = (layout: Layout): string => join(layout.secretsDir, 'rabbitmq-password');

export function amqpUrl(layout: Layout, ports: Ports): string {
  return `amqp://${BROKER_USER}:${keepSecret(brokerPasswordFile(layout))}@127.0.0.1:${ports.amqp}/${VHOST}`;
}

export function managementUrl(layout: Layout, ports: Ports): string {
  return `http://${BROKER_USER}:${keepSecret(brokerPasswordFile(layout))}@127.0.0.1:${ports.management}`;
}

/** Starts a private RabbitMQ node with its own name, cookie, data and users. All Erlang ports listen on loopback only. */
export async function startRabbitmq(context: StartContext): Promise<ManagedProcess[]> {
  const { layout, ports } = context;
  const how = await ensureRabbitmq(context);
  const tls = ensureCertificates(layout);
  const folders = new Folders(layout);
  folders.prepare();
  const isContainer = how.kind === 'container';
  writeWhole(folders.config, configuration(layout, ports, tls, isContainer));
  const epmd = isContainer ? undefined : portMapper(how.epmd, context);
  const container = `funcx-rabbitmq-${layout.hash}`;
  const address = managementUrl(layout, ports);
  const control = isContainer ? containerControl(container) : nodeControl(how.server, folders, layout, ports);
  const health = new RabbitmqHealth({
    managementUrl: address,
    vhost: VHOST,
    queue: QUEUE.results,
    isDeaf: () => refuses('127.0.0.1', ports.amqp),
    freeName: (queue) => freeQueueName(control, VHOST, queue),
    elect: () => electLeaders(control, VHOST),
    say: context.say,
  });
  const broker = new ManagedProcess({
    name: 'rabbitmq',
    program: isContainer ? containerProgram(container, folders, layout, ports) : nodeProgram(how.server, folders, layout, ports),
    log: logFileOf(layout, 'rabbitmq'),
    beforeStart: async () => {
      health.reset();
      if (isContainer) removeContainer(container);
    },
    isReady: () => isServing(layout, ports),
    findFault: () => health.findFault(),
    readyWithinMs: READY_MS,
    stopWithinMs: STOP_MS,
    registry: context.registry,
    say: context.say,
    onChange: context.onChange,
  });
  try {
    await epmd?.start(context.signal);
    await broker.start(context.signal);
  } catch (error) {
    await broker.stop();
    await epmd?.stop();
    throw error;
  }
  folders.markMade();
  return epmd === undefined ? [broker] : [broker, epmd];
}

class Folders {
  readonly home: string;
  readonly data: string;
  readonly config: string;
  readonly plugins: string;
  /** An empty file that replaces /etc/rabbitmq/rabbitmq-env.conf, which belongs to the machine's own broker. */
  readonly environment: string;
  readonly #made: string;

  constructor(layout: Layout) {
    this.home = join(layout.rabbitmqDir, 'home');
    this.data = join(layout.rabbitmqDir, 'mnesia');
    this.config = join(layout.rabbitmqDir, 'rabbitmq.conf');
    this.plugins = join(layout.rabbitmqDir, 'enabled_plugins');
    this.environment = join(layout.rabbitmqDir, 'rabbitmq-env.conf');
    this.#made = join(layout.rabbitmqDir, 'made');
  }

  prepare(): void {
    // Only the first boot creates the users. A node that is killed during its first boot would never create them.
    if (!existsSync(this.#made)) rmSync(this.data, { recursive: true, force: true });
    mkdirSync(this.home, { recursive: true, mode: 0o700 });
    mkdirSync(this.data, { recursive: true, mode: 0o700 });
    keepSecret(join(this.home, '.erlang.cookie'));
    writeFileSync(this.plugins, '[rabbitmq_management].\n');
    writeFileSync(this.environment, '');
  }

  markMade(): void {
    writeFileSync(this.#made, '');
  }
}

/** Contains only keys that both 3.10 and 4.x know, because a single unknown key stops the boot. */
function configuration(layout: Layout, ports: Ports, tls: TlsFiles, isContainer: boolean): string {
  const host = isContainer ? '0.0.0.0' : '127.0.0.1'; // Docker publishes the ports of a container on loopback only
  return `# written by "funcx up" at every start
listeners.tcp.1 = ${host}:${ports.amqp}
listeners.ssl.1 = ${host}:${ports.amqps}
ssl_options.cacertfile = ${tls.authority}
ssl_options.certfile = ${tls.certificate}
ssl_options.keyfile = ${tls.key}
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
management.tcp.ip = ${host}
management.tcp.port = ${ports.management}
# Milliseconds. The statistics of a connection cost more than the traffic of an idle agent.
collect_statistics_interval = 10000
default_vhost = ${VHOST}
default_user = ${BROKER_USER}
default_pass = ${keepSecret(brokerPasswordFile(layout))}
default_user_tags.administrator = true
default_permissions.configure = .*
default_permissions.read = .*
default_permissions.write = .*
max_message_size = ${MAX_MESSAGE_BYTES}
consumer_timeout = ${process.env.FUNCX_RABBITMQ_CONSUMER_TIMEOUT_MS ?? CONSUMER_TIMEOUT_MS}
log.file = false
log.console = true
log.console.level = info
`;
}

function withoutErlangVariables(): NodeJS.ProcessEnv {
  const foreign = /^(RABBITMQ_|ERL_|NOTIFY_SOCKET$)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name)));
}

/** The variables by which `rabbitmqctl` finds the node. The node itself needs the same ones. */
function nodeIdentity(folders: Folders, layout: Layout, ports: Ports): NodeJS.ProcessEnv {
  return {
    ...withoutErlangVariables(),
    HOME: folders.home,
    ERL_EPMD_ADDRESS: '127.0.0.1',
    ERL_EPMD_PORT: String(ports.epmd),
    // "localhost" keeps the data readable when the machine's name changes.
    RABBITMQ_NODENAME: `funcx-${layout.hash}@localhost`,
    RABBITMQ_CONF_ENV_FILE: folders.environment,
  };
}

function nodeControl(server: string, folders: Folders, layout: Layout, ports: Ports): NodeControl {
  return { command: join(dirname(server), 'rabbitmqctl'), args: [], env: nodeIdentity(folders, layout, ports) };
}

const containerControl = (name: string): NodeControl => ({
  command: 'docker',
  args: ['exec', name, 'rabbitmqctl'],
  env: process.env,
});

function nodeProgram(server: string, folders: Folders, layout: Layout, ports: Ports): Program {
  return {
    command: server,
    args: [],
    cwd: layout.rabbitmqDir,
    env: {
      ...nodeIdentity(folders, layout, ports),
      RABBITMQ_DIST_PORT: String(ports.erlangDistribution),
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}',
      RABBITMQ_CONFIG_FILE: folders.config,
      RABBITMQ_ENABLED_PLUGINS_FILE: folders.plugins,
      RABBITMQ_MNESIA_BASE: folders.data,
      RABBITMQ_LOG_BASE: join(layout.rabbitmqDir, 'log'),
      RABBITMQ_GENERATED_CONFIG_DIR: join(layout.rabbitmqDir, 'generated'),
      // Makes the start script exec the node, so that our child is the node and not a shell.
      RUNNING_UNDER_SYSTEMD: 'true',
    },
  };
}

/** Runs Erlang's port mapper in the foreground. As a daemon started by the node, it would outlive this process. */
function portMapper(program: string, context: StartContext): ManagedProcess {
  const { layout, ports } = context;
  return new ManagedProcess({
    name: 'epmd',
    program: {
      command: program,
      args: ['-address', '127.0.0.1', '-port', String(ports.epmd)],
      env: withoutErlangVariables(),
      cwd: layout.rabbitmqDir,
    },
    log: logFileOf(layout, 'epmd'),
    isReady: () => accepts('127.0.0.1', ports.epmd),
    readyWithinMs: READY_MS,
    registry: context.registry,
    say: context.say,
    onChange: context.onChange,
  });
}

function containerProgram(name: string, folders: Folders, layout: Layout, ports: Ports): Program {
  const published = [ports.amqp, ports.amqps, ports.management].flatMap((port) => ['-p', `127.0.0.1:${port}:${port}`]);
  // The container uses the same paths, because the configuration contains them.
  const mounts = [layout.rabbitmqDir, layout.tlsDir].flatMap((folder) => ['-v', `${folder}:${folder}`]);
  const variables = {
    HOME: folders.home,
    RABBITMQ_NODENAME: `funcx-${layout.hash}@localhost`,
    RABBITMQ_CONFIG_FILE: folders.config,
    RABBITMQ_ENABLED_PLUGINS_FILE: folders.plugins,
    RABBITMQ_MNESIA_BASE: folders.data,
  };
  const environment = Object.entries(variables).flatMap(([key, value]) => ['-e', `${key}=${value}`]);
  const user = `${process.getuid?.() ?? 0}:${process.getgid?.() ?? 0}`;
  const args = ['run', '--rm', '--name', name, '--user', user, ...published, ...mounts, ...environment, IMAGE, 'rabbitmq-server'];
  return { command: 'docker', args, env: process.env };
}

/** Needed because a container keeps running when the client that started it is killed. */
function removeContainer(name: string): void {
  spawnSync('docker', ['rm', '-f', name], { stdio: 'ignore' });
}

async function isServing(layout: Layout, ports: Ports): Promise<boolean> {
  if (!(await answersManagement(managementUrl(layout, ports)))) return false;
  return (await accepts('127.0.0.1', ports.amqp)) && (await accepts('127.0.0.1', ports.amqps));
}

/** True when the management API at this URL accepts the user and password in the URL. */
export async function answersManagement(address: string): Promise<boolean> {
  const answer = await askManagement(address, 'overview');
  await answer.arrayBuffer();
  return answer.ok;
}

/** True while a node lacks memory or disk space and the broker accepts no messages. */
export async function isBlocked(address: string): Promise<boolean> {
  const answer = await askManagement(address, 'nodes?columns=mem_alarm,disk_free_alarm');
  const nodes = (await answer.json()) as { mem_alarm?: boolean; disk_free_alarm?: boolean }[];
  return answer.ok && nodes.some((node) => node.mem_alarm === true || node.disk_free_alarm === true);
}
