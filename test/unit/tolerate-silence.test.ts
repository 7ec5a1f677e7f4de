import { EventEmitter } from 'node:events';

import type { ChannelModel } from 'amqplib';

import { tolerateSilence } from '../../broker/tolerate-silence';

/** A connection to a broker that sends nothing, with the events of amqplib's heartbeat. */

const PERIOD_MS = 5_000;

beforeEach(() => jest.useFakeTimers());
afterEach(() => jest.useRealTimers());

function connection(): { drop: jest.Mock; stream: { bytesRead: number }; beSilentFor: (periods: number) => void } {
  const heartbeater = Object.assign(new EventEmitter(), { interval: PERIOD_MS / 1_000 });
  const drop = jest.fn();
  heartbeater.on('timeout', drop);
  const stream = { bytesRead: 100 };
  tolerateSilence({ connection: { heartbeater, stream } } as unknown as ChannelModel, 40_000);
  return {
    drop,
    stream,
    beSilentFor(periods) {
      for (let n = 1; n <= periods; n++) {
        jest.advanceTimersByTime(PERIOD_MS);
        if (n >= 2) heartbeater.emit('timeout');
      }
    },
  };
}

test('a connection whose broker is silent for less than the limit is kept, and dropped at the limit', () => {
  const { drop, beSilentFor } = connection();
  beSilentFor(7);
  expect(drop).not.toHaveBeenCalled();
  const longer = connection();
  longer.beSilentFor(8);
  expect(longer.drop).toHaveBeenCalledTimes(1);
});

test('a silence begins anew after the broker has sent something', () => {
  const { drop, stream, beSilentFor } = connection();
  beSilentFor(6);
  stream.bytesRead++;
  beSilentFor(7);
  expect(drop).not.toHaveBeenCalled();
  beSilentFor(8);
  expect(drop).toHaveBeenCalled();
});
