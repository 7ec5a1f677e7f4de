import { TaskFuture } from '../../sdk/index';

describe('a future', () => {
  test('settles once, with what came first', async () => {
    const future = new TaskFuture<number>(async () => false);
    future.accept('t');
    future.resolve(1);
    future.resolve(2);
    future.reject(new Error('late'));
    expect([await future, await future.taskId, future.isDone]).toEqual([1, 't', true]);
  });

  test('that was refused rejects its task id too', async () => {
    const future = new TaskFuture<number>(async () => false);
    future.reject(new Error('refused'));
    await expect(future).rejects.toThrow('refused');
    await expect(future.taskId).rejects.toThrow('refused');
  });

  test('asks for its cancellation until it is done', async () => {
    let asked = 0;
    const future = new TaskFuture<number>(async () => ++asked > 0);
    expect(await future.cancel()).toBe(true);
    future.resolve(1);
    expect(await future.cancel()).toBe(false);
    expect(asked).toBe(1);
  });

  test('is a promise for everything that takes one', async () => {
    const future = new TaskFuture<number>(async () => false);
    future.resolve(3);
    let ended = 0;
    expect(await Promise.all([future, future.then((n) => n + 1), future.finally(() => ended++)])).toEqual([3, 4, 3]);
    expect(ended).toBe(1);
    const failed = new TaskFuture<number>(async () => false);
    failed.reject(new Error('no'));
    expect(await failed.catch(() => 'caught')).toBe('caught');
  });
});
