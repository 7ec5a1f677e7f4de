import { readFileSync } from 'node:fs';

import type { NativeConnectionOptions } from '@temporalio/worker';

import type { Config } from './config';

/** How the service connects to Temporal. The variables have the same names as in Temporal's own tools. */
export function temporalConnectionOptions(config: Config): NativeConnectionOptions {
  const { TEMPORAL_API_KEY: apiKey, TEMPORAL_TLS_CLIENT_CERT_PATH: cert, TEMPORAL_TLS_CLIENT_KEY_PATH: key } = config;
  if ((cert === undefined) !== (key === undefined)) {
    throw new Error('Set both TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH, or neither.');
  }
  const authority = config.TEMPORAL_TLS_SERVER_CA_CERT_PATH;
  const serverName = config.TEMPORAL_TLS_SERVER_NAME;
  const isTls = config.TEMPORAL_TLS ?? [apiKey, cert, authority, serverName].some((setting) => setting !== undefined);
  if (!isTls && apiKey !== undefined) {
    throw new Error('TEMPORAL_API_KEY is never sent without TLS: unset TEMPORAL_TLS=0, or the key.');
  }
  return {
    address: config.TEMPORAL_ADDRESS,
    apiKey,
    ...(isTls
      ? {
          tls: {
            ...(authority === undefined ? {} : { serverRootCACertificate: readFileSync(authority) }),
            serverNameOverride: serverName,
            ...(cert === undefined || key === undefined
              ? {}
              : { clientCertPair: { crt: readFileSync(cert), key: readFileSync(key) } }),
          },
        }
      : {}),
  };
}
