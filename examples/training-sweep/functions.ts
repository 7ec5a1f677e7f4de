import { pythonFunction } from '@funcx-temporal/sdk/workflow';

export interface Trial {
  rate: number;
  loss: number;
  weight: number;
}

/** If a rate diverges, the function raises, and the sweep continues without this rate. */
export const train = pythonFunction<[rate: number, steps: number], Trial>({
  name: 'train',
  source: `
    def train(rate, steps):
        """Fits y = 3x by gradient descent."""
        weight = 0.0
        points = [(x, 3.0 * x) for x in (1.0, 2.0, 3.0)]
        for _ in range(steps):
            weight -= rate * sum(2 * x * (weight * x - y) for x, y in points) / len(points)
            if abs(weight) > 1e6:
                raise OverflowError(f"a rate of {rate} diverges")
        loss = sum((weight * x - y) ** 2 for x, y in points)
        return {"rate": rate, "loss": loss, "weight": round(weight, 3)}
  `,
});
