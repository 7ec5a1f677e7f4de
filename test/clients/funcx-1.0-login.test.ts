import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { clientEnv, scriptFile, sdk104 } from '../helpers/funcx-1.0';
import { finished } from '../helpers/own-loopback';
import { admin, state } from '../helpers/system';

/** Gives the client a terminal and does what its user does: opens the address, logs in, copies the code. */
const PERSON = `
import html, os, pty, re, sys, urllib.parse, urllib.request
identity, secret, *command = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(command[0], command)
shown = ""
logins = 0
answered = 0
while True:
    try:
        data = os.read(terminal, 65536)
    except OSError:
        break
    if not data:
        break
    shown += data.decode()
    address = re.search(r"(http://\\S+/v2/oauth2/authorize\\?\\S+)", shown[answered:])
    if address and "Code here:" in shown[answered:]:
        answered = len(shown)
        page = urllib.request.urlopen(address.group(1)).read().decode()
        fields = {html.unescape(n): html.unescape(v) for n, v in re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', page)}
        form = urllib.parse.urlencode({**fields, "identity": identity, "secret": secret}).encode()
        origin = urllib.parse.urlsplit(address.group(1))
        answer = urllib.request.urlopen(f"http://{origin.netloc}/v2/oauth2/authorize", form).read().decode()
        code = re.search(r'<code id="code">([^<]*)</code>', answer).group(1)
        logins += 1
        os.write(terminal, (html.unescape(code) + "\\n").encode())
os.waitpid(pid, 0)
print(shown)
print("logins", logins)
`;

test('a person logs in once with a code; the next program needs no login, until somebody logs out', async () => {
  const bin = await sdk104();
  const { FUNCX_SDK_CLIENT_ID: _id, FUNCX_SDK_CLIENT_SECRET: _secret, ...env } = clientEnv();
  const person = join(env.HOME ?? '', 'person.py');
  writeFileSync(person, PERSON);
  const { client_id: id, client_secret: secret } = admin();
  const run = async (script: string): Promise<string> => {
    const python = join(bin, 'python');
    const child = spawn(python, [person, id, secret, python, scriptFile(script)], {
      env: { ...env, GLOBUS_SDK_SERVICE_URL_AUTH: `${state().api_url}/` },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const { stdout, stderr } = await finished(child, 60_000);
    return stdout + stderr;
  };
  const first = await run('print("status", fxc.get_endpoint_status(endpoint)["status"])');
  expect(first).toContain('status online');
  expect(first).toContain('logins 1');
  const second = await run('print("status", fxc.get_endpoint_status(endpoint)["status"]); fxc.logout()');
  expect(second).toContain('status online');
  expect(second).toContain('logins 0');
  expect(await run('')).toContain('logins 1');
}, 300_000);
