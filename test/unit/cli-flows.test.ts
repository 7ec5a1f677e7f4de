import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { readInput } from '../../cli/flow';
import { readFlowFile } from '../../cli/flow-file';
import { flowSvg } from '../../cli/flow-graph';
import { addEntries, createRunView, drawSteps, type Step } from '../../cli/flow-view';
import type { RunDocument } from '../../cli/flows-client';

let dir: string;
beforeAll(() => (dir = mkdtempSync(join(tmpdir(), 'funcx-flow-file-'))));
afterAll(() => rmSync(dir, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

describe('a flow in a file', () => {
  test('a YAML file may hold a definition with its title and schema, or the definition alone', () => {
    const whole = readFlowFile(
      file(
        'a.yaml',
        'title: T\nkeywords: [k]\ninput_schema: {}\ndefinition:\n  StartAt: A\n  States:\n    A: {Type: Pass, End: true}\n',
      ),
    );
    expect(whole).toMatchObject({ title: 'T', extra: { keywords: ['k'] }, inputSchema: {}, problems: [] });
    const alone = readFlowFile(file('alone.json', '{"StartAt": "A", "States": {"A": {"Type": "Pass", "End": true}}}'));
    expect(alone).toMatchObject({ title: 'alone', definition: { StartAt: 'A' }, problems: [] });
  });

  test('a mistake is told with the line and the column of its place', () => {
    const path = file('b.yaml', 'StartAt: A\nStates:\n  A:\n    Type: Pass\n    Next: Nowhere\n');
    const { problems } = readFlowFile(path);
    expect(problems).toEqual([expect.stringMatching(/b\.yaml:[45]:\d+: States\.A.*Nowhere/)]);
  });

  test('every mistake is told, in the order of the file', () => {
    const path = file(
      'many.yaml',
      [
        'title: ""',
        'colour: red',
        'keywords: [1]',
        'input_schema:',
        '  type: objekt',
        '  properties:',
        '    n: {minimum: low}',
        'definition:',
        '  StartAt: B',
        '  States:',
        '    A: {Type: Pass}',
        '    C: {Type: Wait, Seconds: soon, Next: D}',
        '',
      ].join('\n'),
    );
    const { problems } = readFlowFile(path);
    const told = problems.map((line) => /many\.yaml:(\d+):\d+: ([^:]+): /.exec(line)?.slice(1, 3).join(' '));
    expect(told).toEqual([
      '1 title',
      '2 colour',
      '3 keywords.0',
      '5 input_schema.type',
      '7 input_schema.properties.n.minimum',
      '9 StartAt',
      '11 States.A',
      '12 States.C.Seconds',
      '12 States.C.Next',
    ]);
  });

  test('every syntax error is told', () => {
    const path = file('broken.yaml', 'a: 1\na: 2\nb: 1\nb: 2\n');
    expect(() => readFlowFile(path)).toThrow(/broken\.yaml:2:1: [^\n]+\n[^\n]*broken\.yaml:4:1: /);
  });

  test('a syntax error is told with line and column', () => {
    expect(() => readFlowFile(file('c.json', '{\n  "StartAt": "A",,\n}'))).toThrow(/c\.json:2:\d+: /);
  });
});

test('the input of a run is a JSON object, also from a file', () => {
  expect(readInput('{"n": 1}')).toEqual({ n: 1 });
  expect(readInput(`@${file('input.json', '{"n": 2}')}`)).toEqual({ n: 2 });
  expect(() => readInput('[1]')).toThrow('is a JSON object');
});

test('the graph draws each state and an arrow for each step that may follow', () => {
  const definition = {
    StartAt: 'A',
    States: {
      A: { Type: 'Choice', Choices: [{ Variable: '$.n', IsPresent: true, Next: 'B' }], Default: 'C' },
      B: { Type: 'Action', Next: 'A', Catch: [{ ErrorEquals: ['States.ALL'], Next: 'C' }] },
      C: { Type: 'Fail', Error: '<x>' },
    },
  };
  const svg = flowSvg(definition, 'a <b>');
  expect(svg.match(/<rect x=/g)).toHaveLength(3);
  expect(svg.match(/marker-end=/g)).toHaveLength(4);
  expect(svg).toContain('a &#60;b&#62;');
  expect(svg).toContain('catch States.ALL');
});

const at = (s: number): string => new Date(s * 1_000).toISOString();

/** An entry of the log of a run, `s` seconds after its start. */
const entry = (s: number, code: string, name: string, more = {}) => ({
  time: at(s),
  code,
  description: '',
  details: { state_name: name, ...more },
});

test('the log of a run becomes steps with durations', () => {
  const steps: Step[] = [];
  addEntries(steps, [
    { time: at(0), code: 'FlowStarted', description: '', details: {} },
    entry(0, 'PassStarted', 'A'),
    entry(1, 'PassCompleted', 'A'),
    entry(1, 'ActionStarted', 'B'),
  ]);
  expect(drawSteps(steps, 3_500)).toEqual(['├ ✓ A     Pass              1.0 s', '└ … B     Action            2.5 s']);
  addEntries(steps, [entry(4, 'ActionFailed', 'B', { error: 'ActionFailedException' })]);
  expect(drawSteps(steps, 9_000).at(-1)).toBe('└ ✗ B     Action            3.0 s  ActionFailedException');
});

test('a fan-out is a tree of its lines, or a bar when it has many', () => {
  const line = (fan: string, n: number) => [
    entry(0, 'PassStarted', 'Inner', { within: [`${fan}[${n}]`] }),
    entry(0, 'PassCompleted', 'Inner', { within: [`${fan}[${n}]`] }),
  ];
  const steps: Step[] = [];
  addEntries(steps, [
    entry(0, 'MapStarted', 'Few', { lines: 2 }),
    ...line('Few', 1),
    ...line('Few', 0),
    entry(0, 'MapCompleted', 'Few'),
  ]);
  addEntries(steps, [
    entry(0, 'MapStarted', 'Many', { lines: 40 }),
    ...Array.from({ length: 10 }, (_, n) => line('Many', n)).flat(),
  ]);
  expect(drawSteps(steps, 1_000)).toEqual([
    '├ ✓ Few        Map               0.0 s',
    '├ ✓   0 Inner  Pass              0.0 s',
    '├ ✓   1 Inner  Pass              0.0 s',
    '└ … Many       Map               1.0 s  █████░░░░░░░░░░░░░░░ 10/40',
  ]);
});

test('in a log, each step is written once when it ends, also a step around others', () => {
  const steps: Step[] = [];
  const write = jest.spyOn(process.stderr, 'write').mockReturnValue(true);
  try {
    const show = createRunView();
    const within = { within: ['Fan[0]'] };
    addEntries(steps, [entry(0, 'MapStarted', 'Fan', { lines: 1 }), entry(0, 'PassStarted', 'Inner', within)]);
    addEntries(steps, [entry(1, 'PassCompleted', 'Inner', within)]);
    show({} as RunDocument, steps);
    addEntries(steps, [entry(3, 'MapCompleted', 'Fan')]);
    show({} as RunDocument, steps);
    expect(write.mock.calls.map(([text]) => text)).toEqual([
      '✓ Fan[0] / Inner  Pass              1.0 s\n',
      '✓ Fan   Map               3.0 s\n',
    ]);
  } finally {
    write.mockRestore();
  }
});
