import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(__dirname, '..', '..');
const mutants = JSON.parse(readFileSync(join(ROOT, 'test', 'mutants.json'), 'utf8')) as {
  name: string;
  file: string;
  find: string;
}[];

test.each(mutants)('the line that the mutant $name breaks is in $file once', ({ file, find }) => {
  expect(readFileSync(join(ROOT, file), 'utf8').split(find)).toHaveLength(2);
});

test('the message of a first function that fails is the one that test:mutants looks for', () => {
  const looked = /includes\('(The [^']+)'\)/.exec(readFileSync(join(ROOT, 'test', 'mutants.mjs'), 'utf8'))?.[1];
  const messages = readFileSync(join(ROOT, 'local', 'setup', 'hello.ts'), 'utf8').match(/new UserError\(`The [^`]*/g) ?? [];
  expect(messages.filter((text) => text.includes(looked ?? 'none'))).toHaveLength(2);
});
