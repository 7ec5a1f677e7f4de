import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { defaultPayloadConverter } from '@temporalio/common';

import { createPayloadCodec, readPayloadKeys } from '../../client/payload-codec';
import { findBasePython } from '../../local/processes/python';
import { ROOT } from '../helpers/readme';

/** The Python package as people get it: installed with pip into an environment of its own, and used. */

const INSTALL_MS = 120_000;
const folder = mkdtempSync(join(tmpdir(), 'funcx-python-'));
const python = join(folder, 'venv', 'bin', 'python');
afterAll(() => rmSync(folder, { recursive: true }));

function run(command: string, args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', cwd: folder });
  expect(status === 0 ? '' : stderr).toBe('');
  return stdout;
}

const USE = `
from concurrent.futures import ThreadPoolExecutor
from funcx_temporal import wait
import funcx_temporal.pipeline

with ThreadPoolExecutor(1) as executor:
    print([future.result() for future in wait([executor.submit(abs, n) for n in (-1, 2)])])
`;

test(
  'pip installs the Python package from its folder, and it shows the progress of futures',
  () => {
    // A copy: pip leaves what it builds beside the sources.
    cpSync(join(ROOT, 'python'), join(folder, 'python'), { recursive: true });
    run(findBasePython().path, ['-m', 'venv', join(folder, 'venv')]);
    run(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', './python']);
    expect(run(python, ['-c', USE])).toBe('[1, 2]\n');
  },
  INSTALL_MS,
);

const CODEC = `
import asyncio, base64, json, sys
from funcx_temporal.encryption import EncryptionCodec
from temporalio.api.common.v1 import Payload

def packed(payload):
    return {"metadata": {k: base64.b64encode(v).decode() for k, v in payload.metadata.items()}, "data": base64.b64encode(payload.data).decode()}

given = json.loads(sys.argv[2])
metadata = {k: base64.b64decode(v) for k, v in given["metadata"].items()}
codec = EncryptionCodec(sys.argv[1])
read = asyncio.run(codec.decode([Payload(metadata=metadata, data=base64.b64decode(given["data"]))]))
print(json.dumps({"read": read[0].data.decode(), "written": packed(asyncio.run(codec.encode(read))[0])}))
`;

test(
  'what the TypeScript codec encrypts, the Python codec reads, and the other way round',
  async () => {
    run(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', 'temporalio', 'cryptography']);
    const keys = join(folder, 'keys');
    writeFileSync(keys, `# keys\nk2 ${'2'.repeat(64)}\nk1 ${'1'.repeat(64)}\n`);
    const codec = createPayloadCodec({ keys: readPayloadKeys(keys) });
    const [encrypted] = await codec.encode([defaultPayloadConverter.toPayload('Ada')]);
    const base64 = (bytes?: Uint8Array | null): string => Buffer.from(bytes ?? []).toString('base64');
    const metadata = Object.fromEntries(Object.entries(encrypted?.metadata ?? {}).map(([name, value]) => [name, base64(value)]));
    const { read, written } = JSON.parse(
      run(python, ['-c', CODEC, keys, JSON.stringify({ metadata, data: base64(encrypted?.data) })]),
    ) as { read: string; written: { metadata: Record<string, string>; data: string } };
    expect(read).toBe('"Ada"');
    const [decrypted] = await codec.decode([
      {
        metadata: Object.fromEntries(
          Object.entries(written.metadata).map(([name, value]) => [name, Buffer.from(value, 'base64')]),
        ),
        data: Buffer.from(written.data, 'base64'),
      },
    ]);
    expect(defaultPayloadConverter.fromPayload(decrypted ?? {})).toBe('Ada');
  },
  INSTALL_MS,
);
