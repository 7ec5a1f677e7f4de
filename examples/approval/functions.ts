import { pythonFunction } from '@funcx-temporal/sdk/workflow';

export interface Summary {
  samples: number;
  mean: number;
}

export const summarize = pythonFunction<[samples: number[]], Summary>({
  name: 'summarize',
  source: `
    def summarize(samples):
        return {"samples": len(samples), "mean": sum(samples) / len(samples)}
  `,
});

export const publish = pythonFunction<[summary: Summary, approvedBy: string], string>({
  name: 'publish',
  source: `
    def publish(summary, approved_by):
        return f"mean {summary['mean']} of {summary['samples']} samples, approved by {approved_by}"
  `,
});
