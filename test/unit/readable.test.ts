import { requireReadableCode, requireReadableData } from '../../accepting/readable';

const code = (identifier: string, sdkVersion: string | null) => (): void =>
  requireReadableCode(`12\n${identifier}\n`, sdkVersion, 'the code', 'E');

test('code by dill is for the released agents only where their dill made it', () => {
  expect(code('01', null)).not.toThrow(); // clients of funcX 1.0 name no version
  expect(code('01', '2.0.0')).not.toThrow();
  for (const version of ['2.30.1', '3.0.0', '4.19.0']) {
    expect(code('01', version)).toThrow(/dill of globus-compute-sdk .* DillCodeSource/);
    expect(code('10', version)).toThrow(/DillCodeSource/);
    expect(code('04', version)).not.toThrow(); // text
  }
});

test('what the released agents have no reader for is refused by its name', () => {
  expect(code('st', '4.19.0')).toThrow('"st"');
  expect(() => requireReadableData('12\n11\n', 'the payload of task 1', 'E')).toThrow(
    'the payload of task 1 is serialized as "11"',
  );
  expect(() => requireReadableData('12\n00\n', 'the payload of task 1', 'E')).not.toThrow();
});
