import { ensureError } from '../contracts/errors';

import { runAgent } from './run-agent';

/** The agent that the environment describes: `up` and `funcx endpoint start` run it so. */
runAgent(process.env).catch((error: unknown) => {
  process.stderr.write(`${ensureError(error).stack ?? String(error)}\n`);
  process.exit(1);
});
