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
