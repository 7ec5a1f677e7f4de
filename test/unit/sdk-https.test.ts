import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ensureCertificates } from '../../local/engines/certificates';
import { layoutOf, makeFolders } from '../../local/machine/layout';
import { Client, ConnectionError } from '../../sdk/index';

test('a service behind a private authority is trusted with its certificate, as a file or as text, and not without', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'funcx-https-'));
  const layout = layoutOf(dataDir);
  makeFolders(layout);
  const { authority, certificate, key } = ensureCertificates(layout);
  const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (req, res) => {
    const body = req.url === '/v2/oauth2/token' ? { access_token: 't', expires_in: 60 } : { functions: [] };
    res.end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const options = { apiUrl: `https://localhost:${port}`, clientId: 'id', clientSecret: 'secret', retryForMs: 0 };
  for (const ca of [authority, readFileSync(authority, 'utf8')]) {
    const client = new Client({ ...options, ca });
    expect(await client.functions()).toEqual([]);
    client.close();
  }
  const stranger = new Client(options);
  await expect(stranger.functions()).rejects.toBeInstanceOf(ConnectionError);
  stranger.close();
  await new Promise((resolve) => server.close(resolve));
  rmSync(dataDir, { recursive: true });
});
