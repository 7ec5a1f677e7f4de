import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { keepSecret } from '../machine/files';
import { ensureCertificates, ensureClientCertificate } from './certificates';

import type { Layout } from '../machine/layout';

/** How Temporal's clients log in on a shared host. Only the user of the data folder can read the key and the password. */
export interface TemporalAccess {
  ca_file: string;
  certificate_file: string;
  key_file: string;
  ui_user: string;
  ui_password_file: string;
}

export interface GuardSettings {
  command: string;
  args: string[];
  /** Ports of the server inside its network namespace. */
  port: number;
  uiPort: number;
  tls: { authority: string; certificate: string; key: string };
  passwordFile: string;
}

export const UI_USER = 'funcx';

const passwordFileOf = (layout: Layout): string => join(layout.secretsDir, 'temporal-ui-password');

export function ensureAccess(layout: Layout): TemporalAccess {
  const { authority, certificate, key } = ensureClientCertificate(layout);
  keepSecret(passwordFileOf(layout));
  const files = { ca_file: authority, certificate_file: certificate, key_file: key };
  return { ...files, ui_user: UI_USER, ui_password_file: passwordFileOf(layout) };
}

export function guardSettings(layout: Layout, server: Omit<GuardSettings, 'tls' | 'passwordFile'>): GuardSettings {
  ensureAccess(layout);
  return { ...server, tls: ensureCertificates(layout), passwordFile: passwordFileOf(layout) };
}

export function authorizationOf(passwordFile: string): string {
  const password = readFileSync(passwordFile, 'utf8').trim();
  return `Basic ${Buffer.from(`${UI_USER}:${password}`).toString('base64')}`;
}

/** Returns the variables with which a program connects. Temporal's own tools read the same names. */
export function clientVariables(access: TemporalAccess): Record<string, string> {
  return {
    TEMPORAL_TLS: '1',
    TEMPORAL_TLS_SERVER_CA_CERT_PATH: access.ca_file,
    TEMPORAL_TLS_CLIENT_CERT_PATH: access.certificate_file,
    TEMPORAL_TLS_CLIENT_KEY_PATH: access.key_file,
    TEMPORAL_TLS_SERVER_NAME: 'localhost',
  };
}
