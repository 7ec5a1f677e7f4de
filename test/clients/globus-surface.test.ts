import { randomUUID } from 'node:crypto';

import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { localEndpoint } from '../helpers/system';

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
      whoami: async () => expect(await run('whoami')).toContain(client.credentials.client_id.slice(0, 18)),
      configure: async () => endpoint.configure(),
      'render-user-config': async () => expect(await run('render-user-config', '-e', 'surface')).toContain('ThreadPoolEngine'),
      'migrate-to-template-capable': async () => {
        const { stdout, stderr } = await client.run('globus-compute-endpoint', ['migrate-to-template-capable', 'surface']);
        expect(stdout + stderr).toMatch(/template|capable/i);
      },
      start: async () => endpoint.start(),
      list: async () => expect(await run('list')).toMatch(/surface/),
      restart: async () => {
        await endpoint.stop();
        await run('start', '--detach', 'surface');
        await endpoint.untilStatus('online');
        await run('stop', 'surface');
        await endpoint.untilStatus('offline');
      },
      stop: async () => undefined, // above
      delete: async () => {
        await run('delete', 'surface', '--yes');
        expect(await run('list')).not.toMatch(/surface/);
      },
      logout: async () => run('logout', '--force'),
      // They change the machine's service manager, or run a module of Python: nothing of the service is in them.
      'enable-on-boot': async () => run('enable-on-boot', '--help'),
      'disable-on-boot': async () => run('disable-on-boot', '--help'),
      'python-exec': async () => run('python-exec', '--help'),
    };
    const help = lines(await run('--help'));
    const commands = help
      .slice(help.findIndex((line) => line.startsWith('Commands:')) + 1)
      .flatMap((line) => /^ {2}(\S+)/.exec(line)?.[1] ?? []);
    expect(Object.keys(table).sort()).toEqual(commands.sort());
    for (const check of Object.values(table)) await check();
  });

  test('the diagnostic tool runs to its end', async () => {
    const { status, stdout } = await client.run('globus-compute-diagnostic', ['-p'], { timeoutMs: 110_000 });
    expect(status).toBe(0);
    expect(stdout).toContain('globus-compute-sdk');
  });
});
