import { codeBlocks, readPage } from '../helpers/readme';
import { checkoutFolder, runShell } from '../helpers/walk';

/** Every `bash` block of the README runs as it is written, in a folder that looks like the checkout from inside. */

const blocks = codeBlocks(readPage('README.md')).filter(({ language }) => language === 'bash');

/** What a reader should see, by a word of the block. */
const EXPECTED: [contains: string, output: RegExp][] = [
  ['npm run status', /api\s+healthy/],
  ['add.py:add', /^3$[\s\S]*"value":42/m],
  ['globus_compute_sdk', /^3$/m],
  ['curl', /"ready":true[\s\S]*"name":"local"/],
];

describe('the commands of the README', () => {
  test.each(EXPECTED)('the block with "%s" runs as written and shows what it says', async (contains, expected) => {
    const found = blocks.filter(({ code }) => code.includes(contains));
    expect(found).not.toHaveLength(0);
    const { status, output } = await runShell(found[0]!.code, checkoutFolder()); // not empty, as just expected
    expect(output).toMatch(expected);
    expect(status).toBe(0);
  });

  test('no block is left out of these tests', () => {
    const untested = blocks.filter(({ code }) => !EXPECTED.some(([contains]) => code.includes(contains)));
    expect(untested).toEqual([]);
  });
});
