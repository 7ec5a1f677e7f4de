import fc from 'fast-check';

import { packBuffer, packJsonArguments } from '../../contracts/packing';
import type { AgentRegistration } from '../../contracts/http/v1';
import { limitOutcome, maxResultCharsOf } from '../../endpoint/answers';
import { readConfig } from '../../endpoint/config';
import { encodeWorkerFrame, FrameReader, type WorkerFrame } from '../../endpoint/runners/frames';
import { failure, kindOf } from '../../endpoint/runners/runner';
import { formatCommand } from '../../endpoint/runners/shell';

test('frames of a worker survive being cut into pieces anywhere', () => {
  const unicode = fc.string({ unit: 'grapheme' });
  fc.assert(
    fc.property(
      fc.array(fc.record({ key: unicode, body: unicode }), { maxLength: 5 }),
      fc.integer({ min: 1, max: 40 }),
      (frames, size) => {
        const bytes = Buffer.concat(frames.map(({ key, body }) => encodeWorkerFrame({ key }, body)));
        const reader = new FrameReader();
        const read: WorkerFrame[] = [];
        for (let at = 0; at < bytes.length; at += size) read.push(...reader.push(bytes.subarray(at, at + size)));
        expect(read).toEqual(frames.map(({ key, body }) => ({ header: { key }, body })));
      },
    ),
  );
});

test('a frame that is larger than expected is refused before it is read', () => {
  const reader = new FrameReader();
  reader.maxBodyBytes = 5;
  expect(reader.push(encodeWorkerFrame({}, '12345'))).toEqual([{ header: {}, body: '12345' }]);
  expect(() => reader.push(encodeWorkerFrame({}, '123456').subarray(0, 8))).toThrow('too large');
  const lengths = Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
  expect(() => new FrameReader().push(lengths)).toThrow('too large');
});

test.each([
  ['js', 'javascript'],
  ['sh', 'shell'],
  ['st', 'python'],
  ['01', 'python'],
])('a function of kind %s runs in %s', (identifier, kind) => {
  expect(kindOf(packBuffer(identifier, 'f:x') + packJsonArguments([]))).toBe(kind);
});

test('a shell template quotes its arguments and leaves the braces of the shell alone', () => {
  const command = formatCommand("echo {0} {name} ${HOME} {{name}} {a,b}; awk '{ print $1 }'", ["it's"], { name: '$(rm -rf /)' });
  expect(command).toBe(`echo 'it'\\''s' '$(rm -rf /)' \${HOME} {name} {a,b}; awk '{ print $1 }'`);
});

test('a shell template takes numbers, lists and empty text', () => {
  expect(formatCommand('run {0} {1} {2} {3}', [7, ['a', 'b c'], '', true], {})).toBe(`run 7 a 'b c' '' true`);
});

test('a shell template without an argument for its placeholder is refused', () => {
  expect(() => formatCommand('echo {x}', [], {})).toThrow('no argument for the placeholder {x}');
  expect(() => formatCommand('echo {1}', ['a'], {})).toThrow('no argument for the placeholder {1}');
});

test('the limit of a result counts code points, as the clients do', () => {
  const outcome = { data: '😀'.repeat(10), startedNs: 0, endedNs: 0 };
  expect(limitOutcome(outcome, 10)).toBe(outcome);
  expect(limitOutcome(outcome, 9)).toMatchObject({
    data: 'MaxResultSizeExceeded(10, 9)',
    error: { code: 'MaxResultSizeExceeded' },
  });
});

test('a very long traceback loses its middle, not its last line', () => {
  const { data } = limitOutcome(failure('RemoteExecutionError', `begin${'x'.repeat(200_000)}ValueError: end`), 10);
  expect(data.length).toBeLessThan(70_000);
  expect(data).toMatch(/^begin.*\n\[\.\.\.\]\n.*ValueError: end$/s);
});

test('user code does not inherit the credentials of the agent', () => {
  const config = readConfig({
    FUNCX_API_URL: 'http://localhost:5000/',
    FUNCX_CLIENT_ID: 'id',
    FUNCX_CLIENT_SECRET: 'secret',
    FUNCX_TOKEN: 'fxt_secret of the shell',
    FUNCX_ENDPOINT_DIR: '/tmp/x',
    PATH: '/bin',
  });
  expect(config.apiUrl).toBe('http://localhost:5000');
  expect(config.workerEnv.PATH).toBe('/bin');
  expect(JSON.stringify(config.workerEnv)).not.toContain('secret');
});

test('a wrong environment of the agent names every variable', () => {
  expect(() => readConfig({ FUNCX_WORKERS: 'many' })).toThrow(/FUNCX_API_URL[\s\S]*FUNCX_WORKERS/);
});

test('the limit of a result is read under both names that services give it', () => {
  const registration = (limits: object) => limits as AgentRegistration;
  expect(maxResultCharsOf(registration({ max_body_bytes: 10 }))).toBe(10);
  expect(maxResultCharsOf(registration({ max_body_chars: 20, max_body_bytes: 10 }))).toBe(20);
});
