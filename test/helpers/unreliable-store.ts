import type { PoolClient } from 'pg';

import type { Database } from '../../platform/store/database';

/** What happens instead of one statement. `run` sends the statement to the store. */
export type Accident = (run: () => Promise<unknown>) => Promise<never>;

/** The store executed the statement, and its answer was lost. */
export const lostOnTheWay: Accident = async (run) => {
  await run();
  throw new Error('Connection terminated unexpectedly');
};
export const neverSent: Accident = async () => {
  throw new Error('Connection terminated unexpectedly');
};

/** The store, whose statements meet the accidents that `accidentOf` returns for their names, or for their texts without a name. */
export function unreliable(db: Database, accidentOf: (statement: string) => Accident | undefined): Database {
  const unreliableQuery =
    (target: Database | PoolClient) =>
    (statement: string | { name?: string; text: string }, ...values: unknown[]): Promise<unknown> => {
      const query = target.query as unknown as (...given: unknown[]) => Promise<unknown>;
      const run = async (): Promise<unknown> => await query.call(target, statement, ...values);
      const accident = accidentOf(typeof statement === 'string' ? statement : (statement.name ?? statement.text));
      return accident ? accident(run) : run();
    };
  const wrap = <T extends Database | PoolClient>(target: T): T =>
    new Proxy(target, {
      get(_, name): unknown {
        if (name === 'query') return unreliableQuery(target);
        if (name === 'connect' && 'totalCount' in target) return async () => wrap(await target.connect());
        const value: unknown = Reflect.get(target, name);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  return wrap(db);
}
