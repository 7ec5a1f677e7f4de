import { ensureError } from '../contracts/errors';

import { runAgent } from './run-agent';

/** Runs the agent that the environment describes. `up` and `funcx endpoint start` start the agent with this file. */
runAgent(process.env).catch((error: unknown) => {
  process.stderr.write(`${ensureError(error).stack ?? String(error)}\n`);
  process.exit(1);
});
