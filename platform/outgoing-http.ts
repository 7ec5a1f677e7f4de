import { lookup as resolveName, type LookupAddress } from 'node:dns';
import { request as requestHttp, type IncomingMessage } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIP, type BlockList, type LookupFunction } from 'node:net';

import { mayConnectTo } from './networks';

/**
 * Sends requests of the service to addresses that users choose. Connects only to public addresses and to listed networks. The
 * host name is resolved here, and the connection uses the checked addresses. Follows no redirects and uses no proxy.
 */
export interface OutgoingHttp {
  /** Rejects with {@link OutgoingRefused} when a repeat cannot help, with any other error when the server did not answer. */
  send(request: OutgoingRequest): Promise<OutgoingAnswer>;
}

export interface OutgoingRequest {
  method: 'GET' | 'POST';
  url: string;
  body?: unknown;
}

export interface OutgoingAnswer {
  status: number;
  /** Undefined when the answer is not JSON. */
  body: unknown;
  /** The start of the answer, for messages. */
  text: string;
}

/** The request must not be sent, or its answer cannot be used. The message is for the author of the request. */
export class OutgoingRefused extends Error {
  override name = 'OutgoingRefused';
}

const DEADLINE_MS = 30_000;
export const MAX_REQUEST_BYTES = 1_000_000;
export const MAX_ANSWER_BYTES = 500_000;
const MAX_SHOWN_CHARS = 500;

export function createOutgoingHttp(allowed: BlockList, { deadlineMs = DEADLINE_MS } = {}): OutgoingHttp {
  const requireReachable = (host: string, address: string): void => {
    if (!mayConnectTo(address, allowed)) {
      throw new OutgoingRefused(
        `${host} has the private address ${address}, to which this service does not connect; ask the operator to allow the address`,
      );
    }
  };

  /** Called by `net`, with `all` if it wants every address of the name. */
  const lookup: LookupFunction = (host, options, callback) => {
    resolveName(host, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
      if (error) return callback(error, '');
      try {
        for (const { address } of addresses) requireReachable(host, address);
      } catch (refused) {
        return callback(refused as Error, '');
      }
      const [first] = addresses;
      if (options.all === true) return callback(null, addresses);
      return callback(null, first?.address ?? '', first?.family);
    });
  };

  return {
    async send({ method, url, body }) {
      const target = new URL(url);
      const host = target.hostname.replace(/^\[|\]$/g, '');
      // `net` does not call `lookup` for a literal IP address.
      if (isIP(host) !== 0) requireReachable(host, host);
      const text = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
      if (text && text.length > MAX_REQUEST_BYTES)
        throw new OutgoingRefused(`the body has ${text.length} bytes, the limit is ${MAX_REQUEST_BYTES}`);
      const deadline = AbortSignal.timeout(deadlineMs);
      const send = target.protocol === 'https:' ? requestHttps : requestHttp;
      try {
        const response = await new Promise<IncomingMessage>((resolve, reject) => {
          const request = send(target, {
            method,
            lookup,
            agent: false,
            signal: deadline,
            headers: {
              accept: 'application/json',
              ...(text ? { 'content-type': 'application/json', 'content-length': text.length } : {}),
            },
          });
          request.once('response', resolve);
          request.once('error', reject);
          request.end(text);
        });
        return await readAnswer(response, target.host);
      } catch (error) {
        if (!deadline.aborted) throw error;
        throw new Error(`${target.host} did not answer within ${deadlineMs / 1_000} s`, { cause: error });
      }
    },
  };
}

async function readAnswer(response: IncomingMessage, host: string): Promise<OutgoingAnswer> {
  const { statusCode: status = 0 } = response;
  if (status >= 300 && status < 400) {
    response.destroy();
    throw new OutgoingRefused(`${host} answered with a redirect (${status}), which is not followed; use the final address`);
  }
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) {
      response.destroy();
      throw new OutgoingRefused(`the answer of ${host} has more than ${MAX_ANSWER_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  return { status, body: parsed(text), text: text.slice(0, MAX_SHOWN_CHARS) };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
