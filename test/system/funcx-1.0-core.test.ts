import { join } from 'node:path';

import { NO_OWN_LOOPBACK, testUnless } from '../helpers/conditions';
import { clientEnv, sdk104, usualPorts } from '../helpers/funcx-1.0';
import { slideProgram } from '../helpers/slide';

// Its endpoint id and the client's addresses (localhost:5000 and :6000) are what they were in 2022.
testUnless(NO_OWN_LOOPBACK)(
  'the slide of 2022 prints its line, with the released client and no change',
  async () => {
    const bin = await sdk104();
    const loopback = await usualPorts();
    try {
      const { status, stdout, stderr } = await loopback.run(join(bin, 'python'), [slideProgram()], clientEnv());
      expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: expect.stringMatching(/^Hello from \S+\n$/), stderr: '' });
    } finally {
      await loopback.close();
    }
  },
  300_000,
);
