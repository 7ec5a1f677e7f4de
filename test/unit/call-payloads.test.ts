import { defaultPayloadConverter, toPayloads, type Payload } from '@temporalio/common';

import { INPUT_ERROR_KEY } from '../../contracts/calls';
import { packJsonArguments } from '../../contracts/packing';
import { payloadConverter } from '../../workflows/call-payloads';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const json = (text: string): Payload => ({ metadata: { encoding: bytes('json/plain') }, data: bytes(text) });

interface Call {
  args: unknown[];
  kwargs?: Record<string, unknown>;
  policy?: unknown;
}

test('the numbers of a call come through the workflow and its activity as the pipeline wrote them', () => {
  const written = '[1.0, 3544790567247868102, NaN, {"rate": 1e-05, "n": [-Infinity, 2]}]';
  const input = payloadConverter.fromPayload<Call>(
    json(`{"function": "f", "endpoint": "e", "args": ${written}, "policy": {"walltime_s": 5.0}}`),
  );
  expect(input.policy).toEqual({ walltime_s: 5 });
  const forActivity = toPayloads(payloadConverter, { kind: 'call', call: input, requestKey: 'k' })?.[0];
  const { call } = payloadConverter.fromPayload<{ call: Call }>(forActivity ?? {});
  expect(packJsonArguments(call.args)).toBe(packed(written.replaceAll(', ', ',').replaceAll(': ', ':')));
});

const packed = (args: string): string => `${args.length + 3}\n11\n${args}5\n11\n{}`;

test('every other value is read and written as by the default converter', () => {
  for (const value of [
    'text',
    1.5,
    null,
    [1, { a: [] }],
    { function: 'f' },
    undefined,
    { function: 'f', endpoint: 'e', args: [1] },
  ]) {
    const payload = payloadConverter.toPayload(value);
    expect(payload).toEqual(defaultPayloadConverter.toPayload(value));
    expect(payloadConverter.fromPayload(payload)).toEqual(value);
  }
  expect(payloadConverter.fromPayload(json('{"value": 1.0}'))).toEqual({ value: 1 });
});

test.each([
  ['is not JSON', json('{"function": nonsense}')],
  ['has an unknown encoding', { metadata: { encoding: bytes('binary/encrypted') }, data: bytes('x') }],
])('an input that %s is marked, so that the call is refused', (_what, payload) => {
  expect(Object.keys(payloadConverter.fromPayload<object>(payload))).toEqual([INPUT_ERROR_KEY]);
});
