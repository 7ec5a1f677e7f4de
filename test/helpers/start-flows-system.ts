import startSystem from './start-system';
import { freePort } from './own-api';

/** The system of the layer `flows`, with one address at which actions may run over HTTP. */
export default async function startFlowsSystem(): Promise<void> {
  const port = String(await freePort());
  process.env.FUNCX_TEST_PROVIDER_PORT = port;
  process.env.FUNCX_FLOWS_HTTP_ALLOW = `http://127.0.0.1:${port}/*`;
  // An array of 50 MB passes from one step to the next.
  process.env.FUNCX_MAX_BODY_CHARS = '100000000';
  process.env.FUNCX_MAX_REQUEST_BYTES = '150000000';
  startSystem();
}
