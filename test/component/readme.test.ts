import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import type { Command } from 'commander';

import { createProgram } from '../../cli/program';
import { COUNT_ATTRIBUTE, SEARCH_ATTRIBUTE, QUERY } from '../../contracts/names';
import { PORT_OPTIONS } from '../../local/setup/options';
import { DEFAULT_PORTS } from '../../local/machine/ports';
import { configSchema } from '../../platform/config';
import { codeBlocks, readPage, ROOT, tableRows } from '../helpers/readme';

const readme = readPage('README.md');
const pages = ['README.md', 'CHANGELOG.md', ...readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`)].filter((path) =>
  path.endsWith('.md'),
);

describe('the pages for people', () => {
  test.each(pages)('every link of %s to a file of the repository leads somewhere', (path) => {
    const links = [...readPage(path).matchAll(/\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)/g)].map((match) => match[1]!); // the group always matches
    const missing = links.filter((link) => !existsSync(join(ROOT, path, '..', link)));
    expect(missing).toEqual([]);
  });

  test.each(pages)('every link of %s to a heading leads to one', (path) => {
    const slugOf = (heading: string): string =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-');
    const links = [...readPage(path).matchAll(/\]\((?!https?:)([^)#]*)#([^)]+)\)/g)];
    const missing = links.filter(([, file, anchor]) => {
      const page = readPage(file === '' ? path : join(path, '..', file ?? ''));
      const slugs = [...page.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => slugOf(heading ?? ''));
      return !slugs.includes(anchor ?? '');
    });
    expect(missing.map(([link]) => link)).toEqual([]);
  });

  test('every npm command that it shows exists', () => {
    const { scripts } = JSON.parse(readPage('package.json')) as { scripts: Record<string, string> };
    const shown = codeBlocks(readme).flatMap(({ code }) => [...code.matchAll(/npm (?:run )?([\w:]+)/g)].map((match) => match[1]));
    const named = [...readme.matchAll(/`npm run ([\w:]+)/g)].map((match) => match[1]);
    expect([...shown, ...named].filter((name) => name !== undefined && !(name in scripts))).toEqual([]);
    expect(shown).toContain('up');
  });

  test('its table of rooms has a line for each folder of code', () => {
    const rooms = tableRows(readme)
      .map(([folder]) => folder ?? '')
      .filter((folder) => folder.endsWith('/'))
      .map((folder) => folder.slice(0, -1));
    const notRooms = new Set(['node_modules', 'dist', 'bin', 'Makefile']);
    const folders = readdirSync(ROOT, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.') && !notRooms.has(entry.name))
      .map((entry) => entry.name)
      .filter((name) => readdirSync(join(ROOT, name)).length > 0);
    expect(folders.filter((folder) => !rooms.includes(folder))).toEqual([]);
  });

  test('its ports are the ones that "up" takes, and each can be moved as it says', () => {
    const row = tableRows(readme).filter(([, port]) => /^\d/.test(port ?? ''));
    const ports = row.flatMap(([, port = '']) => port.split(', ').map(Number));
    const flags = row.flatMap(([, , flag = '']) => flag.split(', '));
    const moved = Object.entries(PORT_OPTIONS) as [keyof typeof DEFAULT_PORTS, { flag: string }][];
    const expected = new Map(moved.map(([name, { flag }]) => [flag, DEFAULT_PORTS[name]]));
    expect(new Map(flags.map((flag, index) => [flag, ports[index]]))).toEqual(expected);
  });

  test('docs/operations.md names every variable of the service with its default, and no other', () => {
    const shape = Object.entries(configSchema.shape);
    const documented = new Map(
      tableRows(readPage('docs/operations.md'))
        .filter(([name]) => /^[A-Z][A-Z0-9_]+$/.test(name ?? ''))
        .map(([name, value]) => [name, value]),
    );
    const expected = new Map(
      shape.map(([name, schema]) => {
        const { success, data } = schema.safeParse(undefined);
        return [name, success && data !== undefined ? String(data) : 'none'];
      }),
    );
    expect(documented).toEqual(expected);
  });

  test('docs/command-line.md has a line for each command, and no other', () => {
    const isShown = (command: Command): boolean => !command.name().startsWith('_');
    const leaves = (command: Command, path: string[]): string[] => [
      // Some commands with an argument of their own have further commands.
      ...(command.commands.length === 0 || command.registeredArguments.length > 0 ? [path.join(' ')] : []),
      ...command.commands.filter(isShown).flatMap((inner) => leaves(inner, [...path, inner.name()])),
    ];
    const documented = tableRows(readPage('docs/command-line.md')).map(([name]) => name);
    expect([...documented].sort()).toEqual(leaves(createProgram(), []).sort());
  });

  test('the search attributes and queries that it names are all there are', () => {
    const names = [...Object.values(SEARCH_ATTRIBUTE), ...Object.values(COUNT_ATTRIBUTE), ...Object.values(QUERY)];
    for (const name of names) expect(readme).toContain(`\`${name}\``);
  });
});
