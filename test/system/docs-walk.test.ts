import { checkoutFolder, missingLine, runShell, stepsOf } from '../helpers/walk';

/**
 * Every `bash` block of these pages, one after the other in one folder, as a reader walks them. A `text` block after it
 * is what it prints. test/system/sdk-package.test.ts walks the page for TypeScript.
 */

const PAGES = ['docs/quickstart-globus.md', 'docs/quickstart-operator.md'];
const unique = Date.now().toString(36);

test.each(PAGES)(
  'a reader of %s sees what it promises',
  async (page) => {
    const folder = checkoutFolder();
    const steps = stepsOf(page);
    expect(steps.length).toBeGreaterThan(2);
    expect(steps.flatMap(({ promised }) => promised).length).toBeGreaterThan(1);
    let variables = '';
    for (const { commands, promised } of steps) {
      // Names of identities and groups are taken for good; the tests may walk the page again on the same system.
      const own = (text: string): string => text.replace(/\b(alice|lab)\b/g, `$1-${unique}`);
      const { status, output } = await runShell(`${variables}${own(commands)}`, folder);
      expect({ commands, status, output: status === 0 ? '' : output }).toEqual({ commands, status: 0, output: '' });
      const missing = missingLine(output, promised.map(own));
      expect(missing === undefined ? '' : `"${missing}" is missing in:\n${output}`).toBe('');
      // A reader stays in one shell.
      if (commands.includes('eval ')) variables += `${commands}\n`;
    }
  },
  60_000,
);
