import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { GLOBUS_REQUIREMENTS, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { ensureVenv } from '../helpers/python-venv';

/** The engines of the stock endpoint: each is another way to run what the service dispatches. */

/** An MPI with its launcher, as a package; so the tests need none on the machine. */
const MPI = 'mpich==5.0.2';

const ON_THIS_MACHINE = `
  address: 127.0.0.1
  encrypted: false
  provider:
    type: LocalProvider
    init_blocks: 1
    min_blocks: 0
    max_blocks: 1
`;

const ENGINES: Record<string, string> = {
  ThreadPoolEngine: 'type: ThreadPoolEngine\n  max_workers: 2\n',
  ProcessPoolEngine: 'type: ProcessPoolEngine\n  max_workers: 2\n',
  GlobusComputeEngine: `type: GlobusComputeEngine\n  max_workers_per_node: 2${ON_THIS_MACHINE}`,
};

const template = (engine: string): string => `idle_heartbeats_soft: 0\nheartbeat_period: 5\nengine:\n  ${engine}`;
const squares = (n: number): number[] => Array.from({ length: n }, (_, i) => i * i);

let client: StockClient;

beforeAll(async () => {
  client = new StockClient(await ensureVenv('globus-mpi-4.19.0', [...GLOBUS_REQUIREMENTS, MPI]));
}, 300_000);

async function withEndpoint(
  name: string,
  engine: string,
  environment: Record<string, string>,
  use: (endpoint: StockEndpoint) => Promise<void>,
): Promise<void> {
  const endpoint = await new StockEndpoint(client, name).configure('', template(engine), environment);
  await endpoint.start();
  try {
    await use(endpoint);
  } finally {
    await endpoint.stop();
  }
}

describe('the engines of the stock endpoint', () => {
  test.each(Object.keys(ENGINES))(
    '%s gives 40 right values and the traceback of what raises',
    async (name) => {
      await withEndpoint(name, ENGINES[name] ?? '', {}, async (endpoint) => {
        const values = await client.script('many.py', [endpoint.id, '40', '0'], { timeoutMs: 110_000 });
        expect(values.values).toEqual(squares(40));
        const failed = await client.script('many.py', [endpoint.id, '1', '-1'], { timeoutMs: 60_000 });
        expect(failed.values).toEqual([expect.stringMatching(/TaskExecutionFailed[\s\S]*ValueError: sleep length must be/)]);
      });
    },
    300_000,
  );

  test('GlobusMPIEngine starts as many ranks as the resource specification asks for', async () => {
    const nodes = join(client.dir, 'nodes');
    writeFileSync(nodes, 'localhost\nlocalhost\n');
    const engine = `type: GlobusMPIEngine\n  mpi_launcher: mpiexec\n  max_workers_per_block: 1${ON_THIS_MACHINE}    launcher:\n      type: SimpleLauncher\n`;
    await withEndpoint('mpi', engine, { PBS_NODEFILE: nodes }, async (endpoint) => {
      expect(await client.script('mpi.py', [endpoint.id, '2', '2'], { timeoutMs: 110_000 })).toMatchObject({
        returncode: 0,
        lines: ['', 'rank 0 of many', 'rank 1 of many', 'rank 2 of many', 'rank 3 of many'],
      });
    });
  }, 300_000);
});
