import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { logFileOf } from '../machine/layout';
import { UserError } from '../machine/user-error';
import { onPath } from '../processes/python';
import { runCommand } from '../processes/run-command';

import type { StartContext } from '../processes/start-context';

const DOCKER_MS = 5_000;

/** How this machine can run RabbitMQ: with installed programs, or in a container. */
export type RabbitmqProgram = { kind: 'installed'; server: string; epmd: string } | { kind: 'container' };

/** Folders that contain `rabbitmq-server` itself. Debian's wrapper in /usr/sbin runs only as the user `rabbitmq`. */
function serverFolders(): string[] {
  const versioned = ['/usr/lib/rabbitmq/lib', '/usr/lib64/rabbitmq/lib', '/opt', '/usr/local'].flatMap((folder) =>
    existsSync(folder)
      ? readdirSync(folder)
          .filter((name) => name.startsWith('rabbitmq_server-'))
          .map((name) => join(folder, name, 'sbin'))
      : [],
  );
  const brew = ['/opt/homebrew', '/usr/local', '/home/linuxbrew/.linuxbrew'].map((prefix) => join(prefix, 'opt/rabbitmq/sbin'));
  return [...versioned, ...brew, '/opt/rabbitmq/sbin', '/usr/lib/rabbitmq/sbin'];
}

function findServer(): string | undefined {
  const known = serverFolders()
    .map((folder) => join(folder, 'rabbitmq-server'))
    .find((path) => existsSync(path));
  const path = known ?? onPath('rabbitmq-server');
  return path === undefined ? undefined : realpathSync(path);
}

/** Erlang includes the port mapper, but it is not always on the PATH. */
function findEpmd(): string | undefined {
  const script = 'io:format("~s", [code:root_dir()]), halt().';
  const { stdout, status } = spawnSync('erl', ['-noshell', '-eval', script], { encoding: 'utf8' });
  if (status !== 0) return onPath('epmd');
  const root = stdout.trim();
  const runtimes = readdirSync(root).filter((name) => name.startsWith('erts-'));
  return runtimes.map((name) => join(root, name, 'bin', 'epmd')).find((path) => existsSync(path)) ?? onPath('epmd');
}

function findInstalled(): RabbitmqProgram | undefined {
  const server = findServer();
  const epmd = server === undefined ? undefined : findEpmd();
  return server === undefined || epmd === undefined ? undefined : { kind: 'installed', server, epmd };
}

/** Finds RabbitMQ, or installs it if allowed, or uses a container. Otherwise throws an error with the command to type. */
export async function ensureRabbitmq(context: StartContext): Promise<RabbitmqProgram> {
  const found = findInstalled();
  if (found !== undefined) return found;
  const manager = findPackageManager();
  if (manager?.isAllowed === true) {
    context.say(
      `rabbitmq is not installed; installing it (${manager.commands.map((command) => command.join(' ')).join(' && ')})`,
    );
    await install(manager, context);
    const installed = findInstalled();
    if (installed !== undefined) return installed;
  }
  if (spawnSync('docker', ['info'], { stdio: 'ignore', timeout: DOCKER_MS }).status === 0) return { kind: 'container' };
  const hint = manager?.hint ?? 'install RabbitMQ 3.10 or newer from https://www.rabbitmq.com/docs/download';
  throw new UserError(
    `RabbitMQ is needed and cannot be installed from here: ${hint}, or start Docker, or set AMQP_URL and AMQP_MANAGEMENT_URL.`,
  );
}

interface PackageManager {
  name: string;
  isAllowed: boolean;
  commands: string[][];
  hint: string;
}

function findPackageManager(): PackageManager | undefined {
  const isRoot = process.getuid?.() === 0;
  const byName: Record<string, string[][]> = {
    'apt-get': [
      ['apt-get', 'update'],
      ['apt-get', 'install', '-y', '--no-install-recommends', 'rabbitmq-server'],
    ],
    dnf: [['dnf', 'install', '-y', 'rabbitmq-server']],
    apk: [['apk', 'add', 'rabbitmq-server']],
    brew: [['brew', 'install', 'rabbitmq']],
  };
  for (const [name, commands] of Object.entries(byName)) {
    if (onPath(name) === undefined) continue;
    const isBrew = name === 'brew';
    const typed = commands.map((command) => (isBrew ? command : ['sudo', ...command]).join(' ')).join(' && ');
    return { name, commands, isAllowed: isBrew ? !isRoot : isRoot, hint: `run "${typed}"` };
  }
  return undefined;
}

async function install(manager: PackageManager, context: StartContext): Promise<void> {
  const options = {
    log: logFileOf(context.layout, 'install'),
    signal: context.signal,
    registry: context.registry,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', HOMEBREW_NO_AUTO_UPDATE: '1' },
  };
  const undo = manager.name === 'apt-get' ? forbidServiceStart() : (): void => undefined;
  try {
    for (const [command = '', ...args] of manager.commands) await runCommand(command, args, options);
  } finally {
    undo();
  }
}

/** Debian starts an installed service unless policy-rc.d exits with 101. The machine's own broker must not start. */
function forbidServiceStart(): () => void {
  const policy = '/usr/sbin/policy-rc.d';
  if (existsSync(policy)) return () => undefined;
  writeFileSync(policy, '#!/bin/sh\nexit 101\n');
  chmodSync(policy, 0o755);
  return () => rmSync(policy, { force: true });
}
