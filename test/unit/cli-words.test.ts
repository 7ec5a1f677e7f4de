import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Command } from 'commander';

import { candidatesFor } from '../../cli/completion';
import { readArgumentSets } from '../../cli/map';
import { showDuration, showTime } from '../../cli/output';
import { createProgram } from '../../cli/program';
import { barOf, createMeter } from '../../cli/progress';
import { layoutOf, makeFolders } from '../../local/machine/layout';
import { choosePorts } from '../../local/setup/choose-ports';
import { DEFAULT_UP, readExternals } from '../../local/setup/options';
import { ROOT } from '../helpers/readme';

/** What the command line says, without a service. */

const folder = mkdtempSync(join(tmpdir(), 'funcx-words-'));
const file = (text: string): string => {
  const path = join(folder, `${Math.random()}.json`);
  writeFileSync(path, text);
  return path;
};

describe('progress', () => {
  const progress = { total: 100, done: 58, failed: 0, rate: 0 };

  test('58 of 100 is 58 %, and nothing of nothing is all', () => {
    expect(barOf(progress)).toMatch(/^\[#{17}-{13}\] 58\/100 {2}58 %$/);
    for (let done = 0; done <= 100; done++) expect(barOf({ ...progress, done })).toContain(`  ${done} %`);
    expect(barOf({ ...progress, total: 0, done: 0 })).toContain('100 %');
  });

  test('says why nothing happens, and how many failed', () => {
    const note = 'waiting for laptop, offline since 14:02';
    expect(barOf({ ...progress, failed: 2, note })).toMatch(/58 % {2}2 failed {2}waiting for laptop, offline since 14:02$/);
    expect(barOf({ ...progress, done: 100, note })).not.toContain('waiting');
  });

  test('the rate is that of the last seconds', () => {
    const meter = createMeter();
    expect(meter(500, 0)).toBe(0);
    expect(meter(510, 1_000)).toBe(10);
    for (let at = 2_000; at <= 20_000; at += 1_000) meter(510, at);
    expect(meter(510, 21_000)).toBe(0);
  });
});

test('a duration has the two units that matter', () => {
  expect([340, 2_400, 185_000, 8_040_000, 273_600_000].map(showDuration)).toEqual([
    '340 ms',
    '2.4 s',
    '3 min 5 s',
    '2 h 14 min',
    '3 d 4 h',
  ]);
});

test('a time is that of the clock here, and names its zone', () => {
  const shown = showTime('2026-12-10T14:00:05.123Z');
  expect(shown).toMatch(/^2026-12-1[01] \d\d:\d\d:05 \S+$/);
  expect(Date.parse(shown.slice(0, 19).replace(' ', 'T'))).toBe(Date.UTC(2026, 11, 10, 14, 0, 5));
});

describe('completion', () => {
  const program = createProgram();

  test('completes commands, their commands and their options', () => {
    expect(candidatesFor(program, ['sub'])).toEqual(['submission']);
    expect(candidatesFor(program, ['submission', 'l'])).toEqual(['list']);
    expect(candidatesFor(program, ['submission', 'list', '--f'])).toEqual(['--failed']);
    expect(candidatesFor(program, [])).toContain('watch');
    expect(candidatesFor(program, ['__'])).toEqual([]);
  });
});

describe('argument sets', () => {
  test('are one JSON value a line, or an array of them', () => {
    expect(readArgumentSets(file('[1, 2]\n{"n": 3}\n"x"\n\n'))).toEqual([
      { args: [1, 2] },
      { kwargs: { n: 3 } },
      { args: ['x'] },
    ]);
    expect(readArgumentSets(file('[[1], [2]]'))).toEqual([{ args: [1] }, { args: [2] }]);
    expect(readArgumentSets(file('[\n  {"n": 1},\n  5\n]\n'))).toEqual([{ kwargs: { n: 1 } }, { args: [5] }]);
    expect(readArgumentSets(file('[1, 2]'))).toEqual([{ args: [1, 2] }]);
  });

  test('that are not JSON are refused with their line', () => {
    expect(() => readArgumentSets(file('[1]\n[2\n'))).toThrow(/line 2: this is not JSON/);
    expect(() => readArgumentSets(file(''))).toThrow(/has no argument set/);
    expect(() => readArgumentSets(join(folder, 'nowhere'))).toThrow(/cannot be read/);
  });
});

describe('help', () => {
  const program = createProgram();
  const all = (command: Command): Command[] => [command, ...command.commands.flatMap(all)];
  function helpOf(command: Command): string {
    let text = '';
    command.configureOutput({ writeOut: (part) => (text += part) }).outputHelp();
    return text;
  }

  test('shows examples of commands and files that exist', () => {
    const shown = all(program).flatMap((command) => helpOf(command).split('\n'));
    const examples = shown.flatMap(
      (line) => /(?:^|\$\()(?: {2}.*\| )?\s*(?:bash: |zsh: |fish: )?\s*"?\$?\(?funcx ([a-z_-]+.*)$/.exec(line)?.[1] ?? [],
    );
    const written = examples.filter((example) => !example.startsWith('[') && !example.includes('<'));
    expect(written.length).toBeGreaterThan(5);
    for (const example of written) {
      const [name = ''] = /^[\w-]+/.exec(example) ?? [];
      expect(program.commands.map((command) => command.name())).toContain(name);
      for (const [path] of example.matchAll(/examples\/[\w./-]+/g))
        expect([path, existsSync(join(ROOT, path))]).toEqual([path, true]);
    }
  });

  test('has the version of the package', () => {
    expect(program.version()).toMatch(/^\d+\.\d+\.\d+/);
  });
});

describe('up', () => {
  const listening: Server[] = [];
  afterEach(() => listening.splice(0).forEach((server) => server.close()));
  const occupy = async (): Promise<number> => {
    const server = createServer();
    listening.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return (server.address() as AddressInfo).port;
  };

  test('names all ports of the API that are in use at once', async () => {
    const layout = layoutOf(join(folder, 'data'));
    makeFolders(layout);
    const [api, ws] = [await occupy(), await occupy()];
    const chosen = choosePorts(layout, { ...DEFAULT_UP, ports: { api, ws } }, new Set());
    await expect(chosen).rejects.toThrow(
      new RegExp(`Port ${api} of the API.* --api-port[^]*Port ${ws} of the results WebSocket.* --ws-port`),
    );
  });

  test('does not take the address of its own Temporal, which "env" exports, for an external one', () => {
    const env = { TEMPORAL_ADDRESS: '127.0.0.1:7233' };
    expect(readExternals(env).temporalAddress).toBe('127.0.0.1:7233');
    expect(readExternals(env, '127.0.0.1:7233').temporalAddress).toBeUndefined();
  });
});
