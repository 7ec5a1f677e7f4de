import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { limitFile } from '../../endpoint/runners/output-files';

/** What an agent keeps of a task that prints far too much. */

let dir: string;
beforeAll(() => (dir = fs.mkdtempSync(path.join(os.tmpdir(), 'funcx-output-'))));
afterAll(() => fs.rmSync(dir, { recursive: true }));

test('a file that is too large keeps its start, says how much was dropped in all, and is written on behind that', () => {
  const file = path.join(dir, 'stdout');
  const fd = fs.openSync(file, 'ax+');
  fs.writeSync(fd, `start${'x'.repeat(95)}`);
  limitFile(fd, 100, 5);
  expect(fs.readFileSync(file, 'utf8')).toBe(`start${'x'.repeat(95)}`);

  fs.writeSync(fd, 'y');
  limitFile(fd, 100, 5);
  expect(fs.readFileSync(file, 'utf8')).toBe('start\n[... 96 bytes ...]\n');

  fs.writeSync(fd, 'z'.repeat(100));
  limitFile(fd, 100, 5);
  fs.writeSync(fd, 'end');
  expect(fs.readFileSync(file, 'utf8')).toBe('start\n[... 196 bytes ...]\nend');
  fs.closeSync(fd);
});
