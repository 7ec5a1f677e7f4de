import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Fenced blocks of a Markdown page, in order. */
export interface CodeBlock {
  language: string;
  code: string;
  /** The nearest heading above. */
  section: string;
}

export const ROOT = join(__dirname, '..', '..');

export function readPage(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

export function codeBlocks(markdown: string): CodeBlock[] {
  const blocks: CodeBlock[] = [];
  let section = '';
  let open: { language: string; lines: string[] } | undefined;
  for (const line of markdown.split('\n')) {
    const fence = /^```(\w*)\s*$/.exec(line);
    if (open) {
      if (fence) {
        blocks.push({ language: open.language, code: open.lines.join('\n'), section });
        open = undefined;
      } else open.lines.push(line);
    } else if (fence) open = { language: fence[1] ?? '', lines: [] };
    else if (line.startsWith('#')) section = line.replace(/^#+\s*/, '');
  }
  return blocks;
}

/** Rows of the Markdown tables of a page, header and rule left out, cells without their back-ticks. */
export function tableRows(markdown: string): string[][] {
  const rows = markdown.split('\n').filter((line) => line.startsWith('|'));
  return rows
    .filter((line, index) => !/^\|[-| :]+\|$/.test(line) && !/^\|[-| :]+\|$/.test(rows[index + 1] ?? ''))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim().replaceAll('`', '')),
    );
}
