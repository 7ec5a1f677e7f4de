import { X509Certificate } from 'node:crypto';

import { z } from 'zod';

import { TerminalError } from '../contracts/errors';

/**
 * What an enrolment code holds: where the service is, for which endpoint, the secret, and the authority that signed the
 * service's certificate where it is a private one. So the agent trusts no other service.
 */
export interface EnrolmentCode {
  apiUrl: string;
  endpointId: string;
  name: string;
  secret: string;
  /** PEM. */
  authority?: string;
}

const PREFIX = 'fxe1_';
const fieldsSchema = z.tuple([z.url(), z.uuid(), z.string().min(1), z.string().min(1)]).rest(z.string());

/** One word that survives copying from a terminal. */
export function encodeEnrolmentCode({ apiUrl, endpointId, name, secret, authority }: EnrolmentCode): string {
  const certificates = authority === undefined ? [] : certificatesOf(authority);
  const fields = [apiUrl, endpointId, name, secret, ...certificates.map(({ raw }) => raw.toString('base64'))];
  return PREFIX + Buffer.from(JSON.stringify(fields)).toString('base64url');
}

/** Throws INVALID_REQUEST for a code that is not whole. */
export function decodeEnrolmentCode(code: string): EnrolmentCode {
  const parsed = fieldsSchema.safeParse(parseOrUndefined(code.trim()));
  if (!parsed.success) {
    throw new TerminalError(
      'INVALID_REQUEST',
      `this is not a whole enrolment code; copy all of it, from ${PREFIX} on, as "funcx endpoint invite" printed it`,
    );
  }
  const [apiUrl, endpointId, name, secret, ...certificates] = parsed.data;
  const authority = certificates.map((der) => new X509Certificate(Buffer.from(der, 'base64')).toString()).join('');
  return { apiUrl, endpointId, name, secret, ...(authority === '' ? {} : { authority }) };
}

function parseOrUndefined(code: string): unknown {
  if (!code.startsWith(PREFIX)) return undefined;
  try {
    return JSON.parse(Buffer.from(code.slice(PREFIX.length), 'base64url').toString('utf8')) as unknown;
  } catch {
    return undefined; // cut off while it was copied
  }
}

const certificatesOf = (pem: string): X509Certificate[] =>
  (pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map((one) => new X509Certificate(one));
