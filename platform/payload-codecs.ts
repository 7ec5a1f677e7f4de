import type { PayloadCodec } from '@temporalio/common';

import { createPayloadCodec, readPayloadKeys } from '../client/payload-codec';
import type { Config } from './config';

/** The codecs of every client and worker of the service; none without FUNCX_PAYLOAD_KEYS_FILE. */
export function payloadCodecs(config: Config, options: { keepUnreadable?: boolean } = {}): PayloadCodec[] {
  const file = config.FUNCX_PAYLOAD_KEYS_FILE;
  return file === undefined ? [] : [createPayloadCodec({ keys: readPayloadKeys(file), ...options })];
}
