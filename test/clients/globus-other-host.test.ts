import { copyFileSync, mkdtempSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { NO_OWN_HOSTS } from '../helpers/conditions';
import { ownApi, type OwnApi } from '../helpers/own-api';
import { OwnLoopback, type Finished } from '../helpers/own-loopback';
import { codeBlocks, readPage, ROOT } from '../helpers/readme';
import { globusVenv, SCRIPTS } from '../helpers/stock-globus';
import { admin, localEndpoint, state } from '../helpers/system';
import { authorityFile, certificateFor, openTlsFront, type TlsFront } from '../helpers/tls-front';

/**
 * The service on another host, as docs/clients.md describes it: the client's machine is a network namespace, in which
 * nothing of the service is but a name that leads to it over TLS, to the API and to the broker.
 */

const HOST = 'funcx.example';
const onlyThere = NO_OWN_HOSTS === undefined ? test : test.skip;
const why = NO_OWN_HOSTS === undefined ? '' : ` (${NO_OWN_HOSTS})`;

let bin: string;
let api: OwnApi;
let fronts: TlsFront[] = [];
let machine: OwnLoopback;

beforeAll(async () => {
  if (NO_OWN_HOSTS !== undefined) return;
  bin = await globusVenv();
  api = await ownApi({ API_PUBLIC_URL: `https://${HOST}`, AMQP_PUBLIC_URL: `amqps://${HOST}:5671/funcx` });
  const certificate = certificateFor(HOST);
  fronts = await Promise.all([Number(new URL(api.url).port), state().ports.amqp].map((port) => openTlsFront(certificate, port)));
  machine = await OwnLoopback.open({ 443: fronts[0]!.port, 5671: fronts[1]!.port }, [HOST]); // one for each port above
}, 300_000);
afterAll(async () => {
  await machine?.close();
  for (const front of fronts) front.close();
  await api?.close();
});

/** The page's block that has these words. */
function blockWith(words: string): string {
  const found = codeBlocks(readPage('docs/clients.md')).find(({ code }) => code.includes(words));
  if (found === undefined) throw new Error(`docs/clients.md has no block with "${words}"`);
  return found.code;
}

/** Runs lines on that machine, in a folder that looks like the checkout from inside; as a user with an identity. */
async function runThere(lines: string): Promise<Finished> {
  const folder = mkdtempSync(join(tmpdir(), 'funcx-other-host-'));
  for (const name of ['bin', 'local', 'package.json']) symlinkSync(join(ROOT, name), join(folder, name));
  copyFileSync(authorityFile(), join(folder, 'ca.pem'));
  const { client_id, client_secret } = admin();
  const env = {
    PATH: `${bin}:${process.env.PATH}`,
    GLOBUS_COMPUTE_USER_DIR: join(folder, 'state'),
    GLOBUS_COMPUTE_CLIENT_ID: client_id,
    GLOBUS_COMPUTE_CLIENT_SECRET: client_secret,
  };
  return machine.run('bash', ['-c', `set -eu; cd ${folder}\n${lines}`], env, 90_000);
}

/** The line of the page in the background, then a program with the settings that it printed. */
const throughConnect = (program: string): Promise<Finished> =>
  runThere(`
    ${blockWith('funcx connect')} > connect.out &
    connect=$!
    trap 'kill $connect' EXIT
    until grep -q 'Ctrl-C ends this' connect.out; do kill -0 $connect; sleep 0.1; done
    eval "$(grep ^export connect.out)"
    ${program}`);

function valuesOf({ status, stdout, stderr }: Finished): unknown {
  if (status !== 0) throw new Error(`it ended with ${status}: ${stderr}`);
  return (JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as { values: unknown }).values;
}

describe('a service on another host', () => {
  const program = (): string => `python ${join(SCRIPTS, 'many.py')} ${localEndpoint()} 10 0`;
  const squares = Array.from({ length: 10 }, (_, i) => i * i);

  onlyThere(`gives the stock SDK its values through funcx connect, by HTTPS and AMQPS${why}`, async () => {
    expect(valuesOf(await throughConnect(program()))).toEqual(squares);
  });

  onlyThere(`gives the stock SDK its values as an https proxy${why}`, async () => {
    expect(valuesOf(await runThere(`${blockWith('HTTP_PROXY')}\n${program()}`))).toEqual(squares);
  });

  onlyThere(`gives the broker's address together with the authority that signed its certificate${why}`, async () => {
    const ask = `python -c 'from globus_compute_sdk import Client; print(Client().get_result_amqp_url()["connection_url"])'`;
    const { stdout } = await throughConnect(ask);
    expect(stdout).toMatch(/^amqps:\/\/[^@]+@funcx\.example:5671\/funcx\?ssl_options=.*BEGIN%20CERTIFICATE/);
  });
});
