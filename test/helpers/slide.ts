import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * The program of the talk "FuncX Architecture Update" (Parsl & funcX Fest 2022), slide "What's new? FuncXExecutor".
 * `hello_funcx.slide.txt` is its text as the slide shows it, with a column of line numbers; `hello_funcx.py` is what runs.
 */
const FIXTURES = join(__dirname, '..', 'fixtures');
/** Two digits and a blank; an empty line has the number alone. */
const NUMBER_COLUMN = /^[0-9]{1,2}(?:$| {1,2})/;
const WIDTH = 3;

/** The file to run. Throws where it is not, byte for byte, what the slide shows without its line numbers. */
export function slideProgram(): string {
  const file = join(FIXTURES, 'hello_funcx.py');
  const slide = readFileSync(join(FIXTURES, 'hello_funcx.slide.txt'), 'utf8');
  const program = slide
    .split('\n')
    .map((line, index) => {
      if (line !== '' && (!NUMBER_COLUMN.test(line) || parseInt(line, 10) !== index + 1))
        throw new Error(`no line number: ${line}`);
      return line.slice(WIDTH);
    })
    .join('\n');
  if (!readFileSync(file).equals(Buffer.from(program))) throw new Error(`${file} is not the program of the slide`);
  return file;
}
