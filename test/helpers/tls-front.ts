import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';

import { dataDir } from './system';

/** What stands before a service where it is public: TLS with a certificate that the system's own authority signed. */

export interface Certificate {
  key: Buffer;
  cert: Buffer;
}

/** The PEM file of the authority that clients are given. */
export const authorityFile = (): string => join(dataDir(), 'tls', 'ca.pem');

/** The certificate that `up` made for this machine. */
export const certificateOfSystem = (): Certificate => ({
  key: readFileSync(join(dataDir(), 'tls', 'server.key')),
  cert: readFileSync(join(dataDir(), 'tls', 'server.pem')),
});

/** Signed by the authority of the system, for another host name. */
export function certificateFor(host: string): Certificate {
  const dir = mkdtempSync(join(tmpdir(), 'funcx-certificate-'));
  const file = (name: string): string => join(dir, name);
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' });
  writeFileSync(file('ext'), `subjectAltName=DNS:${host}\nextendedKeyUsage=serverAuth\n`);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', file('key')];
  openssl('req', '-new', ...key, '-subj', `/CN=${host}`, '-out', file('csr'));
  const signer = ['-CA', authorityFile(), '-CAkey', join(dataDir(), 'secrets', 'ca.key'), '-set_serial', String(Date.now())];
  openssl('x509', '-req', '-in', file('csr'), ...signer, '-days', '2', '-extfile', file('ext'), '-out', file('cert'));
  return { key: readFileSync(file('key')), cert: readFileSync(file('cert')) };
}

export interface TlsFront {
  port: number;
  close(): void;
}

/** Bytes only: what is behind sees what the client sent. */
export async function openTlsFront(certificate: Certificate, behind: number): Promise<TlsFront> {
  const server = createServer(certificate, (near) => {
    const far = connect({ host: '127.0.0.1', port: behind, noDelay: true });
    near.pipe(far).pipe(near);
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}
