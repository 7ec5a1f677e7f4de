import type { Payload } from '@temporalio/common';
import type { RequestHandler } from 'express';
import type { z } from 'zod';

import { PayloadKeyError } from '../../client/payload-codec';
import { TerminalError } from '../../contracts/errors';
import { payloadListSchema } from '../../contracts/http/v1';
import type { Config } from '../../platform/config';
import type { ApiDeps } from '../deps';
import { route, type Route } from '../route';

/** The codec endpoint for Temporal's UI and command line, which use it to show encrypted payloads of histories. */

export const CODEC_PATH = '/v1/codec/decode';

type PayloadJson = z.infer<typeof payloadListSchema>['payloads'][number];

export function codecRoute({ payloadCodecs }: ApiDeps): Route {
  return route({
    method: 'post',
    path: CODEC_PATH,
    summary: 'Decrypts payloads of Temporal histories, for the Temporal UI; returns unencrypted payloads unchanged',
    access: 'admin',
    bodySize: 'large',
    body: payloadListSchema,
    response: payloadListSchema,
    handle: async ({ body }) => {
      let payloads = body.payloads.map(bytesOf);
      try {
        for (const codec of payloadCodecs) payloads = await codec.decode(payloads);
      } catch (error) {
        if (error instanceof PayloadKeyError) throw new TerminalError('INVALID_REQUEST', error.message, { cause: error });
        throw error;
      }
      return { payloads: payloads.map(jsonOf) };
    },
  });
}

const bytesOf = ({ metadata, data }: PayloadJson): Payload => ({
  metadata: Object.fromEntries(Object.entries(metadata).map(([name, value]) => [name, Buffer.from(value, 'base64')])),
  data: Buffer.from(data, 'base64'),
});

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

const jsonOf = ({ metadata, data }: Payload): PayloadJson => ({
  metadata: Object.fromEntries(Object.entries(metadata ?? {}).map(([name, value]) => [name, base64(value)])),
  data: base64(data ?? new Uint8Array()),
});

/** Lets pages of the Temporal UI, which has another origin, call this path. Browsers send a preflight request first. */
export function allowTemporalUi({ TEMPORAL_UI_URL }: Config): RequestHandler {
  const origin = URL.canParse(TEMPORAL_UI_URL) ? new URL(TEMPORAL_UI_URL).origin : undefined;
  return function allowTemporalUiOrigin(req, res, next) {
    if (req.path !== CODEC_PATH) return next();
    res.vary('origin');
    if (origin !== undefined && req.headers.origin === origin) {
      res.setHeader('access-control-allow-origin', origin);
      res.setHeader('access-control-allow-methods', 'POST');
      res.setHeader('access-control-allow-headers', 'authorization, content-type, x-namespace');
      res.setHeader('access-control-max-age', '600');
      if (req.method === 'OPTIONS') return void res.status(204).end();
    }
    next();
  };
}
