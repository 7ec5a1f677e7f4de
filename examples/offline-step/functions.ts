import { pythonFunction } from '@funcx-temporal/sdk/workflow';

export const acquire = pythonFunction<[n: number], number[]>({
  name: 'acquire',
  source: `
    def acquire(n):
        return [x * x for x in range(n)]
  `,
});

export const analyse = pythonFunction<[samples: number[]], number>({
  name: 'analyse',
  source: `
    def analyse(samples):
        return sum(samples)
  `,
});
