import { checkInput, schemaProblems } from '../../api/flows/input-schema';

/** Inputs against schemas of any author, as the API checks them. */

const SLOW = { properties: { n: { type: 'string', pattern: '^(a+)+$' } } };
const slowInput = { n: `${'a'.repeat(40)}!` };
const honest = { type: 'object', required: ['n'], properties: { n: { type: 'integer' }, mode: { enum: ['a', 'b'] } } };

const checkSlow = (owner: string): Promise<void> => checkInput(owner, SLOW, slowInput);

test('a slow pattern ends with an error of the input, and stops neither the process nor another owner', async () => {
  await checkInput('honest', honest, { n: 1 });
  let turns = 0;
  const timer = setInterval(() => turns++, 10);
  let isSlowOver = false;
  const slow = Promise.all(
    [checkSlow('attacker'), checkSlow('attacker')].map((one) => one.catch((error: Error) => error.message)),
  );
  void slow.then(() => (isSlowOver = true));
  for (let n = 0; n < 20; n++) await checkInput('honest', honest, { n });
  expect(isSlowOver).toBe(false);
  expect(await slow).toEqual([expect.stringContaining('longer than'), expect.stringContaining('longer than')]);
  clearInterval(timer);
  expect(turns).toBeGreaterThan(20);
});

test('the mistakes of an input are told with their paths', async () => {
  await expect(checkInput('honest', honest, { n: 'x', mode: 'c' })).rejects.toMatchObject({
    code: 'FLOW_INPUT_ERROR',
    message: 'Input failed schema validation with 2 errors.',
    detail: [
      { loc: ['$.n'], msg: 'must be integer', type: 'InvalidActionInput' },
      { loc: ['$.mode'], msg: 'must be equal to one of the allowed values: ["a","b"]', type: 'InvalidActionInput' },
    ],
  });
  expect(await schemaProblems('honest', { type: 'whatever' })).toEqual([
    expect.objectContaining({ loc: ['input_schema', 'type'], msg: expect.stringContaining('not JSON Schema') }),
  ]);
  expect(await schemaProblems('honest', honest)).toEqual([]);
});

test('a schema that collects errors without end is an error of the input', async () => {
  const definitions = Object.fromEntries(
    Array.from({ length: 40 }, (_, n) => [
      `d${n}`,
      n === 39 ? { type: 'string' } : { allOf: Array(3).fill({ $ref: `#/definitions/d${n + 1}` }) },
    ]),
  );
  const error = await checkInput('attacker', { definitions, $ref: '#/definitions/d0' }, {}).catch((thrown: Error) => thrown);
  expect(error).toMatchObject({ code: 'FLOW_INPUT_ERROR', message: expect.stringContaining('longer than') });
  await checkInput('attacker', honest, { n: 1 });
});

test('an owner whose checks wait for too long gets LIMIT_EXCEEDED', async () => {
  const outcomes = await Promise.allSettled(
    Array.from({ length: 600 }, async (_, n) => checkInput('eager', honest, { n, more: 'x'.repeat(n) })),
  );
  const refused = outcomes.filter((one) => one.status === 'rejected').map(({ reason }) => reason as { code: string });
  expect(refused.length).toBeGreaterThan(50);
  expect(refused.length).toBeLessThan(120);
  expect(new Set(refused.map(({ code }) => code))).toEqual(new Set(['LIMIT_EXCEEDED']));
});
