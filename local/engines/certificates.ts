import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { writeWhole } from '../machine/files';
import {
  bitString,
  boolean,
  contextTag,
  integer,
  ipAddressBytes,
  objectId,
  octetString,
  sequence,
  set,
  time,
  utf8String,
} from './der';

import type { KeyObject } from 'node:crypto';

import type { Layout } from '../machine/layout';

/**
 * The private certificate authority of one system, its server certificate and its client certificate (RFC 5280, P-256). Each is
 * created when it is first needed. Uses node:crypto, because the libraries for certificates add a dozen packages and a global
 * polyfill.
 */

const DAY_MS = 24 * 3600 * 1000;
const AUTHORITY_DAYS = 3650;
/** Apple's clients refuse server certificates that are valid for more than 825 days. */
const SERVER_DAYS = 800;
const RENEW_BEFORE_DAYS = 60;

const OID = {
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  commonName: '2.5.4.3',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

/** First byte of a KeyUsage bit string, with the count of unused bits before it: keyCertSign + cRLSign, digitalSignature. */
const KEY_USAGE = { authority: [1, 0x06], leaf: [7, 0x80] } as const;

export interface TlsFiles {
  authority: string;
  certificate: string;
  key: string;
}

/** Creates missing certificates. Renews the server certificate when it expires soon or the machine's name changed. */
export function ensureCertificates(layout: Layout): TlsFiles {
  const files = filesOf(layout, 'server');
  const issuer = ensureAuthority(layout);
  if (!isUsable(files, issuer.certificate, hostname())) makeLeaf(files, { subject: 'localhost', issuer, use: 'serverAuth' });
  return files;
}

/** Creates a missing client certificate, and renews it when it expires soon. The system's own programs log in with it. */
export function ensureClientCertificate(layout: Layout): TlsFiles {
  const files = filesOf(layout, 'client');
  const issuer = ensureAuthority(layout);
  if (!isUsable(files, issuer.certificate)) makeLeaf(files, { subject: 'funcX', issuer, use: 'clientAuth' });
  return files;
}

function filesOf(layout: Layout, name: 'server' | 'client'): TlsFiles {
  const file = (base: string): string => join(layout.tlsDir, base);
  return { authority: file('ca.pem'), certificate: file(`${name}.pem`), key: file(`${name}.key`) };
}

interface Authority {
  certificate: X509Certificate;
  key: KeyObject;
}

function ensureAuthority(layout: Layout): Authority {
  const [file, keyFile] = [join(layout.tlsDir, 'ca.pem'), join(layout.secretsDir, 'ca.key')];
  if (!existsSync(file) || !existsSync(keyFile)) {
    const key = newKey();
    writeWhole(keyFile, pemOf(key));
    writeWhole(file, issue({ subject: `funcX local authority ${layout.hash}`, key, days: AUTHORITY_DAYS }), 0o644);
  }
  return { certificate: new X509Certificate(readFileSync(file)), key: createPrivateKey(readFileSync(keyFile)) };
}

function makeLeaf(files: TlsFiles, request: Pick<Request, 'subject' | 'issuer' | 'use'>): void {
  const key = newKey();
  writeWhole(files.key, pemOf(key));
  writeWhole(files.certificate, issue({ ...request, key, days: SERVER_DAYS }), 0o644);
}

/** `host`: the name for which the certificate must be valid. */
function isUsable(files: TlsFiles, authority: X509Certificate, host?: string): boolean {
  if (!existsSync(files.certificate) || !existsSync(files.key)) return false;
  const certificate = new X509Certificate(readFileSync(files.certificate));
  const key = createPrivateKey(readFileSync(files.key));
  return (
    certificate.checkPrivateKey(key) &&
    certificate.verify(authority.publicKey) &&
    Date.parse(certificate.validTo) - Date.now() > RENEW_BEFORE_DAYS * DAY_MS &&
    (host === undefined || certificate.checkHost(host) !== undefined)
  );
}

const newKey = (): KeyObject => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
const pemOf = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();
const nameOf = (commonName: string): Buffer => sequence(set(sequence(objectId(OID.commonName), utf8String(commonName))));

interface Request {
  subject: string;
  key: KeyObject;
  days: number;
  /** If absent, the certificate is a self-signed authority. */
  issuer?: Authority;
  /** The extended key usage of a certificate that is not an authority. */
  use?: 'serverAuth' | 'clientAuth';
}

function issue({ subject, key, days, issuer, use }: Request): string {
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const now = Date.now();
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // positive, and always of the same length
  const issuerName = issuer?.certificate.subject.replace(/^CN=/, '') ?? subject;
  const issuerPublicKey = issuer?.certificate.publicKey.export({ type: 'spki', format: 'der' }) ?? publicKey;
  const algorithm = sequence(objectId(OID.ecdsaWithSha256));
  const body = sequence(
    contextTag(0, integer(Buffer.from([2]))), // version 3
    integer(serial),
    algorithm,
    nameOf(issuerName),
    sequence(time(new Date(now - DAY_MS)), time(new Date(now + days * DAY_MS))),
    nameOf(subject),
    publicKey,
    contextTag(3, sequence(...extensions(publicKey, issuerPublicKey, use))),
  );
  const signature = sign('sha256', body, issuer?.key ?? key);
  const der = sequence(body, algorithm, bitString(0, signature));
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function extensions(publicKey: Buffer, issuerPublicKey: Buffer, use: Request['use']): Buffer[] {
  const extension = (id: string, critical: boolean, value: Buffer): Buffer =>
    sequence(objectId(id), ...(critical ? [boolean(true)] : []), octetString(value));
  const [unused, bits] = use === undefined ? KEY_USAGE.authority : KEY_USAGE.leaf;
  const common = [
    extension(OID.subjectKeyId, false, octetString(keyId(publicKey))),
    extension(OID.authorityKeyId, false, sequence(contextTag(0, keyId(issuerPublicKey), 'primitive'))),
    extension(OID.keyUsage, true, bitString(unused, Buffer.from([bits]))),
  ];
  if (use === undefined) return [...common, extension(OID.basicConstraints, true, sequence(boolean(true)))];
  return [
    ...common,
    extension(OID.basicConstraints, true, sequence()),
    extension(OID.extendedKeyUsage, false, sequence(objectId(OID[use]))),
    ...(use === 'serverAuth' ? [extension(OID.subjectAltName, false, sequence(...alternativeNames()))] : []),
  ];
}

/** GeneralName: [2] is a DNS name, [7] an address. */
function alternativeNames(): Buffer[] {
  const names = [...new Set(['localhost', hostname()])].map((name) => contextTag(2, Buffer.from(name, 'latin1'), 'primitive'));
  return [...names, ...['127.0.0.1', '::1'].map((address) => contextTag(7, ipAddressBytes(address), 'primitive'))];
}

/** RFC 5280, 4.2.1.2 (1): the hash of the public key's bits. On P-256 they are the last 65 bytes of the structure. */
const keyId = (publicKey: Buffer): Buffer => createHash('sha1').update(publicKey.subarray(-65)).digest();
