import { TerminalError } from '../contracts/errors';

/** Which serialized forms the released agents of funcX 1.0 can read. Refused here, because other forms would fail only later. */

/** 00: data by dill. 01: code by dill. 02, 03 and 04: code as source text. 10: several of these forms in one buffer. */
const READABLE = new Set(['00', '01', '02', '03', '04', '10']);
/** Code by dill. The agents have dill 0.3.5.1, which cannot load code of a later dill. Source text is the same in each. */
const BY_DILL = new Set(['01', '10']);
/** Found by testing: Globus Compute 2.0.0 has the dill of funcX 1.0; 2.30.1 and all later versions have another. */
const FIRST_WITH_OTHER_DILL = { major: 2, minor: 30 };
const PACKED_START = /^[0-9]+\n(..)\n/;

const INSTEAD =
  'serialize code with DillCodeSource (funcX clients: as they are) and arguments with DillDataBase64, or use a newer endpoint';

/** `start`: the first characters of packed arguments. */
export function requireReadableData(start: string, what: string, endpointId: string): void {
  const identifier = identifierOf(start);
  if (!READABLE.has(identifier)) throw unreadable(`${what} is serialized as "${identifier}"`, endpointId);
}

/** `start`: the first characters of packed code. `sdkVersion`: of the SDK that registered the code, if it sent one. */
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
