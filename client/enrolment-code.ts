import { X509Certificate } from 'node:crypto';

import { z } from 'zod';

import { TerminalError } from '../contracts/errors';

/** What an enrolment code holds. With a private certificate authority, the agent trusts no other service. */
export interface EnrolmentCode {
  apiUrl: string;
  endpointId: string;
  name: string;
  secret: string;
  /** Private certificate authority, as PEM text. */
  authority?: string;
}

const PREFIX = 'fxe1_';
const fieldsSchema = z.tuple([z.url(), z.uuid(), z.string().min(1), z.string().min(1)]).rest(z.string());

/** Encodes the code as one word, which survives copying from a terminal. */
export function encodeEnrolmentCode({ apiUrl, endpointId, name, secret, authority }: EnrolmentCode): string {
  const certificates = authority === undefined ? [] : certificatesOf(authority);
  const fields = [apiUrl, endpointId, name, secret, ...certificates.map(({ raw }) => raw.toString('base64'))];
  return PREFIX + Buffer.from(JSON.stringify(fields)).toString('base64url');
}

/** Throws INVALID_REQUEST for an incomplete code. */
export function decodeEnrolmentCode(code: string): EnrolmentCode {
  const parsed = fieldsSchema.safeParse(parseOrUndefined(code.trim()));
  if (!parsed.success) {
    throw new TerminalError(
      'INVALID_REQUEST',
      `the enrolment code is incomplete; copy all of it, starting with ${PREFIX}, as "funcx endpoint invite" printed it`,
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
    return undefined; // cut off when it was copied
  }
}

const certificatesOf = (pem: string): X509Certificate[] =>
  (pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map((one) => new X509Certificate(one));
