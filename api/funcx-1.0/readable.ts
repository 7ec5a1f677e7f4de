import { TerminalError } from '../../contracts/errors';

/** Which serialized forms the released agents of funcX 1.0 can read. Whatever else is sent there would only fail late. */

/** Data by dill; code by dill (01), as source text (02, 03, 04), and several of these in one (10). */
const READABLE = new Set(['00', '01', '02', '03', '04', '10']);
const PACKED_START = /^[0-9]+\n(..)\n/;

/** `start`: the first characters of packed code or arguments. */
export function requireReadable(start: string, what: string, endpointId: string): void {
  const identifier = PACKED_START.exec(start)?.[1];
  if (identifier !== undefined && READABLE.has(identifier)) return;
  throw new TerminalError(
    'INVALID_REQUEST',
    `${what} is serialized as "${identifier ?? '?'}", which the agent of endpoint ${endpointId} (funcx-endpoint 1.0) can not read; ` +
      'serialize code with DillCode and arguments with DillDataBase64, the defaults of the Python clients, or use a newer endpoint',
    { subject: { kind: 'endpoint', ids: [endpointId] } },
  );
}
