import { ReceiveWindow } from '../../broker/receive-window';

/** How many messages a consumer asks for when it may hold 1,000,000 bytes and 2,000 messages. */

const LIMITS = { messages: 2_000, bytes: 1_000_000 };

function after(sizes: readonly number[], window = new ReceiveWindow(LIMITS)): ReceiveWindow {
  for (const bytes of sizes) {
    window.received(bytes);
    window.settled(bytes);
  }
  return window;
}

test('a window starts small, and grows to its number of messages while they are small', () => {
  const window = new ReceiveWindow(LIMITS);
  expect(window.messages).toBe(64);
  expect(
    after(
      Array.from({ length: 300 }, () => 100),
      window,
    ).messages,
  ).toBe(2_000);
});

test('after a pause a window is as small as at first, and one for large messages stays smaller', () => {
  const small = after(Array.from({ length: 300 }, () => 100));
  small.startAnew();
  expect(small.messages).toBe(64);
  const large = after([100_000]);
  large.startAnew();
  expect(large.messages).toBe(10);
});

test('one large message makes the window so small that a window of such messages stays within the bytes', () => {
  const small = after(Array.from({ length: 300 }, () => 100));
  expect(after([100_000], small).messages).toBe(10);
  expect(after([5_000_000]).messages).toBe(1);
});

test('a window is full at its bytes, and has room again when half of them are settled', () => {
  const window = new ReceiveWindow(LIMITS);
  for (let n = 0; n < 9; n++) window.received(100_000);
  expect(window.isFull).toBe(false);
  window.received(100_000);
  expect(window.isFull).toBe(true);
  for (let n = 0; n < 5; n++) window.settled(100_000);
  expect(window.hasRoom).toBe(false);
  window.settled(100_000);
  expect(window).toMatchObject({ isFull: false, hasRoom: true });
});
