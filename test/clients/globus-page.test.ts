import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { globusVenvForNobody, NOBODY, NOT_AS_NOBODY } from '../helpers/accounts';
import { finished, type Finished } from '../helpers/own-loopback';
import { codeBlocks, readPage, ROOT, type CodeBlock } from '../helpers/readme';
import { globusVenv, StockClient } from '../helpers/stock-globus';
import { testUnless } from '../helpers/conditions';
import { dataDir, Http, state } from '../helpers/system';
import { until } from '../helpers/until';

/** Every block of docs/clients.md runs as it is written; those of the section on another host in globus-other-host. */

const ELSEWHERE = 'A service that is not on this machine';
const blocks = codeBlocks(readPage('docs/clients.md')).filter(({ language }) => ['sh', 'python'].includes(language));
const here = blocks.filter(({ section }) => section !== ELSEWHERE);
const ran = new Set<CodeBlock>();

const isRoot = process.getuid?.() === 0;
/** The usual way to run an endpoint is as an ordinary user. */
const ordinary = testUnless(isRoot ? NOT_AS_NOBODY : undefined);
const onlyAsRoot = testUnless(isRoot ? undefined : 'only root can run tasks as another account');

function blockWith(words: string): CodeBlock {
  const found = here.filter(({ code }) => code.includes(words));
  if (found.length !== 1) throw new Error(`${found.length} blocks of docs/clients.md have "${words}"`);
  ran.add(found[0]!); // it is one
  return found[0]!;
}

/** A person's terminal: a folder that looks like the checkout, and a home. */
class Terminal {
  readonly home = mkdtempSync(join(tmpdir(), 'funcx-page-'));
  readonly client: StockClient;

  constructor(
    readonly bin: string,
    private readonly account: { uid?: number; gid?: number } = {},
  ) {
    this.client = new StockClient(bin);
    chmodSync(this.home, 0o777);
    for (const name of ['bin', 'local', 'package.json']) symlinkSync(join(ROOT, name), join(this.home, name));
  }

  async run(block: CodeBlock, env: Record<string, string> = {}): Promise<Finished> {
    const code = block.language === 'sh' ? block.code : `cat > program.py <<'PY'\n${block.code}\nPY\npython program.py`;
    const child = spawn('bash', ['-euo', 'pipefail', '-c', code], {
      cwd: this.home,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...this.client.env, HOME: this.home, GLOBUS_COMPUTE_USER_DIR: join(this.home, 'compute'), ...env },
      ...this.account,
    });
    const result = await finished(child, 100_000);
    if (result.status !== 0) throw new Error(`${block.code}\nended with ${result.status}:\n${result.stderr}${result.stdout}`);
    return result;
  }

  async untilOnline(endpoint: string): Promise<string> {
    const file = join(this.home, 'compute', endpoint, 'endpoint.json');
    return until(
      `${endpoint} is online`,
      async () => {
        if (!existsSync(file)) return undefined;
        const { endpoint_id: id } = JSON.parse(readFileSync(file, 'utf8')) as { endpoint_id: string };
        return (await new Http().ok('GET', `/v2/endpoints/${id}/status`)).status === 'online' ? id : undefined;
      },
      { deadlineMs: 60_000 },
    );
  }
}

/** What `funcx env` needs of a system that is not in the usual folder and on the usual port. */
const system = (): Record<string, string> => ({
  FUNCX_DATA_DIR: dataDir(),
  GLOBUS_SDK_ENVIRONMENT: '',
  GLOBUS_COMPUTE_CLIENT_ID: '',
  GLOBUS_COMPUTE_CLIENT_SECRET: '',
});

describe('the lines of docs/clients.md', () => {
  test('the SDK runs a function with the variables that funcx env prints', async () => {
    const terminal = new Terminal(await globusVenv());
    await terminal.run(blockWith('pip install globus-compute-sdk'), system());
    const program = blockWith('ex.submit(add, 1, 2)');
    const both = { ...program, language: 'sh', code: `eval "$(./bin/funcx env)"\npython - <<'PY'\n${program.code}\nPY` };
    expect((await terminal.run(both, system())).stdout).toMatch(/^3$/m);
  }, 300_000);

  ordinary(
    `an ordinary user runs the stock endpoint`,
    async () => {
      const terminal = isRoot
        ? new Terminal(await globusVenvForNobody(), { uid: NOBODY.id, gid: NOBODY.id })
        : new Terminal(await globusVenv());
      expect((await terminal.run(blockWith('start --detach my-endpoint'))).stdout).toMatch(/my-endpoint/);
      const id = await terminal.untilOnline('my-endpoint');
      expect((await terminal.client.script('many.py', [id, '5', '0'])).values).toEqual([0, 1, 4, 9, 16]);
      await terminal.run(blockWith('delete my-endpoint --yes'));
      const { status } = await new Http().request('GET', `/v2/endpoints/${id}`);
      expect(status).toBe(404);
    },
    300_000,
  );

  onlyAsRoot(
    'root runs the stock endpoint without identity mapping',
    async () => {
      const terminal = new Terminal(await globusVenv());
      const template = 'engine:\n  type: ThreadPoolEngine\n  max_workers: 2\n';
      const block = blockWith('start --detach root-endpoint');
      await terminal.run({ ...block, code: `printf '${template}' > template.yaml.j2\n${block.code}` });
      const id = await terminal.untilOnline('root-endpoint');
      try {
        expect((await terminal.client.script('many.py', [id, '5', '0'])).values).toEqual([0, 1, 4, 9, 16]);
      } finally {
        await terminal.run({ ...block, code: 'globus-compute-endpoint stop root-endpoint' });
      }
    },
    300_000,
  );

  test('a public function is registered for the tests of the Globus Compute project', async () => {
    const terminal = new Terminal(await globusVenv());
    const block = blockWith('COMPUTE_LOCAL_KNOWN_FUNCTION_ID');
    const shown = { ...block, code: `${block.code}\necho "$COMPUTE_LOCAL_KNOWN_FUNCTION_ID"` };
    const id = (await terminal.run(shown, system())).stdout.trim();
    expect(await new Http().ok('GET', `/v2/functions/${id}`)).toMatchObject({ function_name: 'hello', public: true });
  });

  test('no block is left out of these tests', () => {
    const notHere = isRoot ? (NOT_AS_NOBODY === undefined ? [] : ['my-endpoint']) : ['root-endpoint'];
    const left = here.filter((block) => !ran.has(block) && !notHere.some((name) => block.code.includes(name)));
    expect(left).toEqual([]);
    const elsewhere = blocks.filter(({ section }) => section === ELSEWHERE);
    expect(elsewhere.map(({ code }) => /funcx connect|HTTP_PROXY/.exec(code)?.[0])).toEqual(['funcx connect', 'HTTP_PROXY']);
  });
});

test('funcx env says what else a system on another port needs', async () => {
  const terminal = new Terminal(await globusVenv());
  const env = { language: 'sh', code: './bin/funcx env', section: '' };
  expect((await terminal.run(env, system())).stdout).toContain(`export HTTP_PROXY='${state().api_url}'`);
});
