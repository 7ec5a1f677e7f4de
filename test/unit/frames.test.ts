import { randomUUID } from 'node:crypto';

import fc from 'fast-check';

import { decodeFrame, encodeFrame, type Frame } from '../../contracts/frames';

const uuid = fc.uuid();
const task: fc.Arbitrary<Frame> = fc.record({
  message_type: fc.constant('task' as const),
  data: fc.record({ task_id: uuid, container_id: fc.constant(null), task_buffer: fc.string({ unit: 'binary' }) }),
});
const result: fc.Arbitrary<Frame> = fc.record({
  message_type: fc.constant('result' as const),
  data: fc.record(
    {
      task_id: uuid,
      data: fc.string({ unit: 'binary' }),
      error_details: fc.record({ code: fc.string({ minLength: 1 }), user_message: fc.string() }),
    },
    { requiredKeys: ['task_id', 'data'] },
  ),
});

describe('frames on the broker', () => {
  test('a report of agent 1.0.13, which does not name its period, has the default of that agent', () => {
    const body = (globalState: object): Buffer =>
      Buffer.from(
        `\u0001${JSON.stringify({ message_type: 'ep_status_report', data: { endpoint_id: randomUUID(), global_state: globalState, task_statuses: {} } })}`,
      );
    const periodOf = (globalState: object): unknown => {
      const frame = decodeFrame(body(globalState));
      return frame.message_type === 'ep_status_report' && frame.data.global_state?.heartbeat_period;
    };
    expect(periodOf({ total_workers: 1, pending_tasks: 0, managers: 1 })).toBe(30);
    expect(periodOf({ heartbeat_period: 0 })).toBe(0); // its goodbye
  });

  test('of more than 1 MB have a limit on the number of values, and none on the length of their texts', () => {
    const body = (more: string): Buffer =>
      Buffer.from(`\u0001{"message_type":"result","data":{"task_id":"${randomUUID()}","data":${more}}}`);
    expect(() => decodeFrame(body(`"x","details":{"a":[${'{},'.repeat(700_000)}1]}`))).toThrow('more than 200000 values');
    const text = '[{,\\"'.repeat(300_000);
    expect(decodeFrame(body(JSON.stringify(text)))).toMatchObject({ data: { data: text } });
  });

  test('decode to what was encoded', () => {
    fc.assert(
      fc.property(fc.oneof(task, result), (frame) => {
        expect(decodeFrame(encodeFrame(frame))).toEqual(frame);
      }),
    );
  });

  test('begin with the byte that the stock agents and clients look for', () => {
    fc.assert(fc.property(result, (frame) => expect(encodeFrame(frame)[0]).toBe(1)));
  });

  test('with unknown keys are decoded without them', () => {
    const id = randomUUID();
    const sent = { message_type: 'result', data: { task_id: id, data: 'x', from_the_future: true }, trace: 1 };
    const body = Buffer.concat([Buffer.from([1]), Buffer.from(JSON.stringify(sent))]);
    expect(decodeFrame(body)).toEqual({ message_type: 'result', data: { task_id: id, data: 'x' } });
  });

  test('whatever bytes arrive, decoding ends with a frame or with an error, never with half of one', () => {
    const known = ['task', 'result', 'ep_status_report'];
    const framed = fc.json().map((json) => Buffer.concat([Buffer.from([1]), Buffer.from(json)]));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 100 }), framed), (bytes) => {
        try {
          expect(known).toContain(decodeFrame(Buffer.from(bytes)).message_type);
        } catch (error) {
          // A reason that can be put beside the message; not that a property of undefined was read.
          expect((error as Error).message).toMatch(/./);
          expect((error as Error).message).not.toMatch(/properties of/);
        }
      }),
    );
  });
});
