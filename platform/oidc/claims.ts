import { createHash } from 'node:crypto';

import { TerminalError } from '../../contracts/errors';

/** What the service takes from the claims of a provider's token. */

export type Claims = Readonly<Record<string, unknown>>;

export interface ClaimSettings {
  issuer: string;
  nameClaim: string;
  /** Paths of claims, such as `groups` and `realm_access.roles`. */
  groupsClaims: readonly string[];
  adminGroup?: string;
  /** Empty: every user of the provider may use the service. */
  allowedGroups: readonly string[];
}

export interface ProviderUser {
  issuer: string;
  subject: string;
  /** Derived from issuer and subject, so it is the same in every installation. */
  id: string;
  /** The name for the identity, such as `alice@login.example`, and a second name in case another identity has the first. */
  names: readonly [string, string];
  groups: readonly string[];
  isAdmin: boolean;
}

const MAX_SUBJECT = 255;
const MAX_NAME = 64;
/** A token has no room for more groups. */
const MAX_GROUPS = 1_000;
const MAX_GROUP_NAME = 200;

/** The user that the claims describe. Throws UNAUTHENTICATED without a subject, FORBIDDEN if the user may not use the service. */
export function userOf(claims: Claims, settings: ClaimSettings): ProviderUser {
  const { issuer, adminGroup, allowedGroups } = settings;
  const { sub: subject } = claims;
  if (typeof subject !== 'string' || subject === '' || subject.length > MAX_SUBJECT)
    throw new TerminalError('UNAUTHENTICATED', `the token of ${issuer} has no subject (claim "sub"); tokens of users have one`);
  const groups = groupsOf(claims, settings.groupsClaims);
  if (allowedGroups.length > 0 && !allowedGroups.some((group) => groups.includes(group)))
    throw new TerminalError(
      'FORBIDDEN',
      `you are logged in at ${issuer}, but none of your groups may use this service; ask its operator for access`,
    );
  const id = idOf(issuer, subject);
  return {
    issuer,
    subject,
    id,
    names: namesOf(claims, settings, id),
    groups,
    isAdmin: adminGroup !== undefined && groups.includes(adminGroup),
  };
}

/** An absent claim means no groups: some providers omit the claim when a user has lost their last group. */
function groupsOf(claims: Claims, paths: readonly string[]): string[] {
  const found = paths.flatMap((path) => valuesAt(claims, path));
  return [...new Set(found.filter((group) => group !== '' && group.length <= MAX_GROUP_NAME))].sort().slice(0, MAX_GROUPS);
}

function valuesAt(claims: Claims, path: string): string[] {
  // A claim may have dots in its own name, such as https://funcx.example/groups.
  const value = Object.hasOwn(claims, path) ? claims[path] : path.split('.').reduce<unknown>(memberOf, claims);
  if (typeof value === 'string') return [value];
  return Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string') : [];
}

const memberOf = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;

/** A UUID of version 8 from issuer and subject. */
function idOf(issuer: string, subject: string): string {
  const bytes = createHash('sha256')
    .update(JSON.stringify([issuer, subject]))
    .digest()
    .subarray(0, 16);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/**
 * The names end with the provider's host, so that nobody can choose the name of a local identity. They contain only characters
 * that `describeName` keeps, so that different names stay different in identity mappings.
 */
function namesOf(claims: Claims, { issuer, nameClaim }: ClaimSettings, id: string): [string, string] {
  const candidates = [claims[nameClaim], claims.preferred_username, claims.email, claims.sub];
  const chosen = candidates.find((one): one is string => typeof one === 'string' && one !== '') ?? id;
  const name = chosen
    .toLowerCase()
    .replace(/[^a-z0-9._-]/g, '_')
    .slice(0, MAX_NAME);
  const host = new URL(issuer).hostname.replace(/[^a-z0-9._-]/g, '_');
  return [`${name}@${host}`, `${name}-${id.slice(0, 8)}@${host}`];
}
