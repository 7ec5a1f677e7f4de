import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { NO_OWN_UNITS, testUnless } from '../helpers/conditions';
import { finished } from '../helpers/own-loopback';
import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { isAlive, localEndpoint } from '../helpers/system';
import { until } from '../helpers/until';

/** Every public method of the SDK's two classes, and every subcommand of the endpoint's command line. */

let client: StockClient;

beforeAll(async () => {
  client = new StockClient(await globusVenv());
}, 300_000);

const lines = (text: string): string[] => text.split('\n');

describe('the surface of the Globus Compute clients', () => {
  test('every public method of Client and Executor does what it says', async () => {
    const seen = (await client.script('surface.py', [localEndpoint(), randomUUID()])) as Record<string, Record<string, unknown>>;
    const failed = Object.entries(seen).flatMap(([name, methods]) =>
      Object.entries(methods).flatMap(([method, outcome]) => (outcome === true ? [] : [`${name}.${method}: ${String(outcome)}`])),
    );
    expect(failed).toEqual([]);
  });

  test('every subcommand of the endpoint works', async () => {
    const run = async (...args: string[]): Promise<string> => {
      const { status, stdout, stderr } = await client.run('globus-compute-endpoint', args);
      if (status !== 0) throw new Error(`${args.join(' ')}: ${status} ${stderr}${stdout}`);
      return stdout + stderr;
    };
    const endpoint = new StockEndpoint(client, 'surface');
    const table: Record<string, () => Promise<unknown>> = {
      version: async () => expect(await run('version')).toContain('4.19.0'),
      login: async () => run('login', '--force'),
      whoami: async () => {
        const { client_id: id } = client.credentials;
        expect(await run('whoami')).toContain(id.slice(0, 18));
        expect(await run('whoami', '--linked-identities')).toContain(id.slice(0, 18));
      },
      configure: async () => endpoint.configure(),
      'render-user-config': async () => expect(await run('render-user-config', '-e', 'surface')).toContain('ThreadPoolEngine'),
      'migrate-to-template-capable': async () => {
        // As releases before 4.0 left it: the engine stands in the endpoint's own configuration.
        const old = join(client.dir, 'old');
        mkdirSync(old);
        writeFileSync(join(old, 'config.yaml'), 'engine:\n  type: ThreadPoolEngine\n  max_workers: 2\n');
        await run('migrate-to-template-capable', 'old', '--yes');
        expect(readFileSync(join(old, 'user_config_template.yaml.j2'), 'utf8')).toContain('ThreadPoolEngine');
        expect(await run('render-user-config', '-e', 'old')).toContain('ThreadPoolEngine');
      },
      start: async () => endpoint.start(),
      list: async () => expect(await run('list')).toMatch(/surface/),
      restart: async () => {
        await endpoint.stop();
        await run('start', '--detach', 'surface');
        await endpoint.untilStatus('online');
        const before = endpoint.daemonPid();
        await run('restart', '--detach', 'surface');
        await until('it runs as another process', () => endpoint.daemonPid() !== before && isAlive(endpoint.daemonPid()));
        await endpoint.untilStatus('online');
        expect(isAlive(before)).toBe(false);
      },
      stop: async () => {
        await run('stop', 'surface');
        await endpoint.untilStatus('offline');
      },
      delete: async () => {
        await run('delete', 'surface', '--yes');
        expect(await run('list')).not.toMatch(/surface/);
      },
      logout: async () => run('logout', '--force'),
      'python-exec': async () => expect(await run('python-exec', 'platform', '--terse')).toMatch(/\w+-\d/),
      // What they do is in a test of their own, below.
      'enable-on-boot': async () => run('enable-on-boot', '--help'),
      'disable-on-boot': async () => run('disable-on-boot', '--help'),
    };
    const help = lines(await run('--help'));
    const commands = help
      .slice(help.findIndex((line) => line.startsWith('Commands:')) + 1)
      .flatMap((line) => /^ {2}(\S+)/.exec(line)?.[1] ?? []);
    expect(Object.keys(table).sort()).toEqual(commands.sort());
    for (const check of Object.values(table)) await check();
  }, 300_000);

  testUnless(NO_OWN_UNITS)('an endpoint is started with its machine', async () => {
    await new StockEndpoint(client, 'boot').configure();
    const units = mkdtempSync(join(client.dir, 'units-'));
    // The commands write for the machine's service manager; inside, its folder is one of the test.
    const inside = async (command: string): Promise<string> => {
      const line = `mount --bind ${units} /etc/systemd/system && globus-compute-endpoint ${command} boot`;
      const child = spawn('unshare', ['-rm', 'sh', '-c', line], { env: client.env, stdio: ['ignore', 'pipe', 'pipe'] });
      const { status, stdout, stderr } = await finished(child, 60_000);
      if (status !== 0) throw new Error(`${command}: ${status} ${stderr}${stdout}`);
      return stdout;
    };
    expect(await inside('enable-on-boot')).toContain('sudo systemctl enable globus-compute-endpoint-boot --now');
    const unit = readFileSync(join(units, 'globus-compute-endpoint-boot.service'), 'utf8');
    expect(unit).toContain(`ExecStart=${join(client.bin, 'globus-compute-endpoint')} start boot\n`);
    expect(await inside('disable-on-boot')).toContain('systemctl disable globus-compute-endpoint-boot');
  });

  test('the diagnostic tool runs to its end', async () => {
    const { status, stdout } = await client.run('globus-compute-diagnostic', ['-p'], { timeoutMs: 110_000 });
    expect(status).toBe(0);
    expect(stdout).toMatch(/globus-compute-sdk[\s\S]*globus-compute-endpoint/);
  });
});
