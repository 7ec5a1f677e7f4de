import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { ensureCertificates } from '../../local/engines/certificates';
import { layoutOf, makeFolders } from '../../local/machine/layout';
import { NOBODY, NOT_AS_NOBODY, globusVenvForNobody } from '../helpers/accounts';
import { codeBlocks, readPage, ROOT } from '../helpers/readme';
import { funcx, Http, state, type CommandResult } from '../helpers/system';
import { certificateOfSystem, openTlsFront } from '../helpers/tls-front';

/**
 * docs/endpoint-elsewhere.md, walked: the packed agent in the home of another account that has nothing of the service, from
 * the first command to the first value.
 */

const INSTALL_MS = 180_000;
const home = mkdtempSync(join(tmpdir(), 'funcx-elsewhere-'));
const account = process.getuid?.() === 0 && NOT_AS_NOBODY === undefined ? { uid: NOBODY.id, gid: NOBODY.id } : undefined;
const name = `elsewhere-${Date.now().toString(36)}`;
const page = readPage('docs/endpoint-elsewhere.md');
const commands = codeBlocks(page)
  .filter(({ language, section }) => language === 'sh' && section === 'Five commands')
  .flatMap(({ code }) => code.split('\n'));
const archive = (): string => readdirSync(ROOT).find((file) => /^funcx-temporal-endpoint-.*\.tgz$/.test(file)) ?? '';

/** A shell of the other account: its own home, and only what a machine gives everybody. */
function elsewhere(command: string, extra: Record<string, string> = {}): CommandResult {
  const kept = /^(PATH|LANG|https?_proxy|HTTPS?_PROXY|PIP_.*|SSL_.*|NODE_EXTRA_CA_CERTS|REQUESTS_CA_BUNDLE)$/;
  const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => kept.test(key)));
  const options = { cwd: home, encoding: 'utf8', timeout: INSTALL_MS, ...account } as const;
  const { status, stdout, stderr } = spawnSync('bash', ['-c', command], { ...options, env: { ...env, HOME: home, ...extra } });
  return { status, stdout, stderr };
}
const agent = (args: string, extra?: Record<string, string>): CommandResult =>
  elsewhere(`~/.local/bin/funcx-endpoint ${args}`, extra);
const file = (fileName: string, text: string): string => {
  writeFileSync(join(home, fileName), text);
  return join(home, fileName);
};

interface Invitation {
  id: string;
  code: string;
  command: string;
  notes: string[];
}
const invite = (...args: string[]): Invitation =>
  JSON.parse(funcx(['endpoint', 'invite', name, '--json', ...args]).stdout) as Invitation;

/** The Python of the system, if the other account may run it; else the one of the released clients. */
async function pythonForAccount(): Promise<string> {
  const own = state().python ?? '';
  if (elsewhere(`${own} -c 'import dill, globus_compute_sdk'`).status === 0) return own;
  return join(await globusVenvForNobody(), 'python');
}

let python: string;

beforeAll(async () => {
  chmodSync(home, 0o755);
  if (account !== undefined) chownSync(home, account.uid, account.gid);
  python = await pythonForAccount();
}, INSTALL_MS);
afterAll(() => {
  agent('stop');
  funcx(['endpoint', 'delete', name]);
  rmSync(join(ROOT, archive() || 'nothing'), { force: true });
  rmSync(home, { recursive: true, force: true });
});

test(
  'the page leads an account without anything of the service to an endpoint that serves, in five commands',
  () => {
    expect(commands).toHaveLength(5);
    const [pack = '', copy = '', inviting = '', install = '', enroll = ''] = commands;
    expect(pack).toBe('npm run pack:endpoint');
    execFileSync('npm', ['run', '--silent', 'pack:endpoint'], { cwd: ROOT, stdio: 'ignore' });
    expect(copy).toMatch(/^scp funcx-temporal-endpoint-\*\.tgz/);
    copyFileSync(join(ROOT, archive()), join(home, archive()));
    chmodSync(join(home, archive()), 0o644);
    expect(inviting).toBe('./bin/funcx endpoint invite cluster');
    const invited = funcx(['endpoint', 'invite', name]);
    const printed = /^ {2}(funcx-endpoint enroll \S+)$/m.exec(invited.stdout)?.[1] ?? '';
    expect(invited.stdout).toMatch(/It works once, until \d{4}-/);
    expect(invited.stdout).toContain('Note: The service is known as http://localhost:');
    expect(funcx(['endpoint', 'status', name]).stdout).toContain('no agent of it was ever online');

    const installed = elsewhere(`${install} --no-audit --no-fund`);
    expect(installed.status === 0 ? '' : installed.stderr).toBe('');
    const code = printed.split(' ').at(-1) ?? '';
    expect(enroll).toBe(`~/.local/bin/${printed.replace(code, 'CODE')}`);
    const enrolled = elsewhere(`${enroll.replace('CODE', code)} --python ${python} --workers 1`);
    expect(enrolled.status === 0 ? '' : enrolled.stderr).toBe('');
    expect(enrolled.stdout).toContain(`Enrolled for endpoint ${name} (`);
    expect(enrolled.stdout).toContain(`Endpoint ${name} is connected: process `);
    expect(funcx(['endpoint', 'status', name]).stdout).toMatch(/status +online/);
  },
  2 * INSTALL_MS,
);

test('it serves Python and JavaScript functions as its own account, and keeps its secret from others', async () => {
  const source = 'import getpass, os\n\ndef who():\n    return [os.getuid(), os.path.expanduser("~")]\n';
  const ran = funcx(['run', file('who.py', source), '--endpoint', name]);
  expect(ran.stdout).toBe(`[${account?.uid ?? process.getuid?.()},"${home}"]\n`);
  const http = new Http();
  const { id } = JSON.parse(funcx(['endpoint', 'status', name, '--json']).stdout) as { id: string };
  const triple = await http.register('triple', '(n) => 3 * n', 'javascript');
  const [task = ''] = (await http.submit(id, triple, [[14]])).taskIds;
  expect(await http.value(task)).toBe(42);
  const identity = join(home, '.funcx-endpoint', name, 'identity.json');
  expect(statSync(identity).mode & 0o777).toBe(0o600);
  if (account !== undefined) expect(statSync(identity).uid).toBe(account.uid);
  expect(existsSync(join(home, '.funcx-endpoint', name, 'enrolment.json'))).toBe(false);
});

test('later starts need no code, and status shows the agent on both sides', () => {
  expect(agent('stop').stdout).toBe(`Stopped the agent of endpoint ${name}.\n`);
  expect(agent('status').stdout).toMatch(new RegExp(`^${name} +stopped +endpoint `));
  expect(agent('start').stdout).toMatch(new RegExp(`^Endpoint ${name} is connected: process \\d+`));
  const settings = JSON.parse(readFileSync(join(home, '.funcx-endpoint', name, 'settings.json'), 'utf8')) as object;
  expect(settings).toMatchObject({ workers: 1 });
  expect(agent('start').stdout).toContain('is already running');
  expect(JSON.parse(agent('status --json').stdout)).toMatchObject({ agents: [{ name, state: 'connected' }] });
  const listed = JSON.parse(funcx(['endpoint', 'list', '--json']).stdout) as { endpoints: { name: string; status: string }[] };
  expect(listed.endpoints).toContainEqual(expect.objectContaining({ name, status: 'online' }));
});

describe('a code that cannot be used is refused with a sentence and its code', () => {
  test('of a service whose certificate another authority signed; with the right one it is taken over TLS', async () => {
    const front = await openTlsFront(certificateOfSystem(), Number(new URL(state().api_url).port));
    const { code } = invite('--api-url', `https://localhost:${front.port}`);
    const fields = JSON.parse(Buffer.from(code.slice(5), 'base64url').toString()) as string[];
    const layout = layoutOf(join(home, 'another-system'));
    makeFolders(layout);
    const stranger = new X509Certificate(readFileSync(ensureCertificates(layout).authority)).raw.toString('base64');
    const forged = `fxe1_${Buffer.from(JSON.stringify([...fields.slice(0, 4), stranger])).toString('base64url')}`;
    const env = { ...process.env, FUNCX_ENDPOINT_HOME: join(home, 'over-tls') };
    const enroll = (given: string): Promise<{ stdout: string; stderr: string }> =>
      promisify(execFile)(join(home, '.local', 'bin', 'funcx-endpoint'), ['enroll', given, '--no-start'], { env });
    await expect(enroll(forged)).rejects.toMatchObject({
      stderr: expect.stringMatching(/does not belong to the service of this code.*nothing was sent.* \[UNAUTHENTICATED\]\n$/),
    });
    expect((await enroll(code)).stdout).toContain('Enrolled for endpoint');
    front.close();
  });

  test('used twice', () => {
    const { code } = invite();
    expect(agent(`enroll ${code} --no-start`, { FUNCX_ENDPOINT_HOME: join(home, 'first') })).toMatchObject({ status: 0 });
    const { status, stderr } = agent(`enroll ${code} --no-start`, { FUNCX_ENDPOINT_HOME: join(home, 'second') });
    expect(status).toBe(1);
    expect(stderr).toMatch(/a code works once; ask the owner .* \[ENROLMENT_USED\]\n$/);
  });

  test('cut off, or of another service', async () => {
    const { code, id } = invite();
    expect(agent(`enroll ${code.slice(0, -12)}`).stderr).toContain('the enrolment code is incomplete');
    const fields = JSON.parse(Buffer.from(code.slice(5), 'base64url').toString()) as string[];
    const forged = (at: number, value: string): string =>
      `fxe1_${Buffer.from(JSON.stringify(fields.map((field, index) => (index === at ? value : field)))).toString('base64url')}`;
    expect(agent(`enroll ${forged(3, 'of-another-service')}`).stderr).toContain('[ENROLMENT_UNKNOWN]');
    expect(agent(`enroll ${forged(0, 'http://localhost:9')}`, { FUNCX_ENDPOINT_HOME: join(home, 'third') }).stderr).toMatch(
      /does not answer: .* \[UNAVAILABLE\]\n$/,
    );
    await new Http().ok('DELETE', `/v2/endpoints/${id}`);
    expect(agent(`enroll ${code}`).stderr).toMatch(/was deleted .* \[ENDPOINT_NOT_FOUND\]\n$/);
  });
});

test('the agent that lost its rights says what to do', () => {
  // Its endpoint was deleted by the test above.
  agent('stop');
  const { status, stderr } = agent('start');
  expect(status).toBe(1);
  expect(stderr).toContain(`run "funcx endpoint invite ${name}", and enrol with the code.`);
  expect(readFileSync(join(home, '.funcx-endpoint', name, 'agent.log'), 'utf8')).not.toContain('fxe1_');
});
