import { TerminalError } from '../contracts/errors';

/** Which serialized forms the released agents of funcX 1.0 can read. Whatever else is sent there would only fail late. */

/** Data by dill; code by dill (01), as source text (02, 03, 04), and several of these in one (10). */
const READABLE = new Set(['00', '01', '02', '03', '04', '10']);
/** Their dill is 0.3.5.1. What a later one made of code, it cannot load; as text it is the same in all. */
const BY_DILL = new Set(['01', '10']);
/** Tried: of Globus Compute, 2.0.0 has the dill of funcX 1.0, and 2.30.1 and all later ones another. */
const FIRST_WITH_OTHER_DILL = { major: 2, minor: 30 };
const PACKED_START = /^[0-9]+\n(..)\n/;

const INSTEAD =
  'serialize code with DillCodeSource (funcX clients: as they are) and arguments with DillDataBase64, or use a newer endpoint';

/** `start`: the first characters of packed arguments. */
export function requireReadableData(start: string, what: string, endpointId: string): void {
  const identifier = identifierOf(start);
  if (!READABLE.has(identifier)) throw unreadable(`${what} is serialized as "${identifier}"`, endpointId);
}

/** `start`: the first characters of packed code. `sdkVersion`: of Globus Compute, as it said so at registration. */
export function requireReadableCode(start: string, sdkVersion: string | null, what: string, endpointId: string): void {
  requireReadableData(start, what, endpointId);
  if (BY_DILL.has(identifierOf(start)) && sdkVersion !== null && hasOtherDill(sdkVersion)) {
    throw unreadable(`${what} was serialized by the dill of globus-compute-sdk ${sdkVersion}`, endpointId);
  }
}

const identifierOf = (start: string): string => PACKED_START.exec(start)?.[1] ?? '?';

function hasOtherDill(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > FIRST_WITH_OTHER_DILL.major || (major === FIRST_WITH_OTHER_DILL.major && minor >= FIRST_WITH_OTHER_DILL.minor);
}

const unreadable = (fact: string, endpointId: string): TerminalError =>
  new TerminalError(
    'INVALID_REQUEST',
    `${fact}, which the agent of endpoint ${endpointId} (funcx-endpoint 1.0) cannot read; ${INSTEAD}`,
    {
      subject: { kind: 'endpoint', ids: [endpointId] },
    },
  );
