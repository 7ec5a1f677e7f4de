import { withAuthority } from '../../platform/broker-urls';
import { splitScopes } from '../../api/auth/scopes';
import { errorBody, translateError } from '../../api/middleware/error-handler';
import { requirePacked } from '../../accepting/payloads';
import { splitSpecification } from '../../accepting/targets';
import { ERROR_CATALOGUE, TerminalError } from '../../contracts/errors';
import { flowScope, FLOWS_SCOPE } from '../../contracts/scopes';
import { signBodyToken, verifyBodyToken } from '../../platform/body-tokens';
import { createSecretVerifier, hashSecret } from '../../platform/secrets';

const KEY = '01'.repeat(32);
const TASK = '01a20cdc-b606-8592-8e44-2cd6aaf00001';
const COMPUTE = 'https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all';

describe('tokens of bodies', () => {
  test('a token is good for its own task, attempt and purpose only', () => {
    const token = signBodyToken(KEY, 'body', TASK, 3);
    expect(verifyBodyToken(KEY, 'body', TASK, token)).toBe(3);
    expect(verifyBodyToken(KEY, 'result', TASK, token)).toBeUndefined();
    expect(verifyBodyToken(KEY, 'body', TASK.replace(/1$/, '2'), token)).toBeUndefined();
    expect(verifyBodyToken('02'.repeat(32), 'body', TASK, token)).toBeUndefined();
    expect(verifyBodyToken(KEY, 'body', TASK, token.replace(/^3/, '4'))).toBeUndefined();
    expect(verifyBodyToken(KEY, 'body', TASK, '')).toBeUndefined();
  });
});

describe('client secrets', () => {
  test('a stored secret is recognised, a wrong one is not, also after the right one was', async () => {
    const verify = createSecretVerifier();
    const stored = await hashSecret('the right secret');
    expect(stored).not.toContain('right');
    expect(await verify('the right secret', stored)).toBe(true);
    expect(await verify('a wrong secret', stored)).toBe(false);
    expect(await verify('the right secret', stored)).toBe(true);
  });
});

describe('scopes', () => {
  test('scopes of one resource server make one token, however often they are repeated', () => {
    expect(splitScopes(`${COMPUTE} ${COMPUTE}`)).toEqual([{ resourceServer: 'funcx_service', scope: COMPUTE }]);
    expect(splitScopes('')).toEqual([{ resourceServer: 'funcx_service', scope: COMPUTE }]);
  });

  test('scopes of several resource servers make one token each', () => {
    const manage = 'urn:globus:auth:scope:auth.globus.org:manage_projects';
    expect(splitScopes(`openid ${COMPUTE} ${manage} urn:globus:auth:scope:search.api.globus.org:all`)).toEqual([
      { resourceServer: 'auth.globus.org', scope: `openid ${manage}` },
      { resourceServer: 'funcx_service', scope: COMPUTE },
      { resourceServer: 'search.api.globus.org', scope: 'urn:globus:auth:scope:search.api.globus.org:all' },
    ]);
  });

  test('scopes of Globus Flows make one token under the name that its clients look for', () => {
    const scopes = ['all', 'run', 'run_manage'].map((name) => FLOWS_SCOPE.replace(/all$/, name)).join(' ');
    expect(splitScopes(scopes)).toEqual([{ resourceServer: 'flows.globus.org', scope: scopes }]);
  });

  test('the scope of a flow makes one token, with its dependencies and beside itself', () => {
    const id = '5d0f4d36-1a2b-4c3d-8e4f-0123456789ab';
    const scope = `https://auth.globus.org/scopes/${id}/flow_5d0f4d36_1a2b_4c3d_8e4f_0123456789ab_user`;
    const transfer = 'urn:globus:auth:scope:transfer.api.globus.org:all';
    const brackets = `${scope}[*${transfer}[*https://auth.globus.org/scopes/${id}/data_access] openid]`;
    expect(flowScope(id)).toBe(scope);
    expect(splitScopes(`${brackets} ${scope}`)).toEqual([{ resourceServer: id, scope }]);
  });

  test.each(['a[b', 'a]b', 'a[b]]['])('a scope whose brackets do not match is refused: %s', (scope) => {
    expect(() => splitScopes(scope)).toThrow(expect.objectContaining({ code: 'INVALID_REQUEST' }));
  });
});

describe('payloads', () => {
  const check = (text: string) => () => requirePacked(text, 10, 'the payload of task 1');

  test('a payload that does not begin with a length is refused', () => {
    expect(check('28\n00')).not.toThrow();
    for (const text of ['', 'x', '28', '28 \n', '-1\nx'])
      expect(check(text)).toThrow(expect.objectContaining({ code: 'INVALID_REQUEST' }));
  });

  test('NUL and halves of characters are refused', () => {
    expect(check('4\n\0')).toThrow(expect.objectContaining({ code: 'INVALID_REQUEST' }));
    expect(check('4\n\ud83d')).toThrow(expect.objectContaining({ code: 'INVALID_REQUEST' }));
  });

  test('the limit counts code points, not UTF-16 units', () => {
    expect(check(`8\n${'😀'.repeat(8)}`)).not.toThrow();
    expect(check(`9\n${'😀'.repeat(9)}`)).toThrow(expect.objectContaining({ code: 'PAYLOAD_TOO_LARGE' }));
  });
});

describe('resource specifications', () => {
  test('our part is taken out, the rest goes to the endpoint', () => {
    expect(splitSpecification({ num_nodes: 2, funcx: { walltime_s: 5 } })).toEqual({
      specification: { num_nodes: 2 },
      policy: { walltime_s: 5 },
    });
    expect(splitSpecification({ funcx: {} })).toEqual({ specification: undefined, policy: {} });
    expect(splitSpecification(null)).toEqual({ specification: undefined, policy: {} });
  });

  test('an unknown wish is refused by its name', () => {
    expect(() => splitSpecification({ funcx: { wall: 5 } })).toThrow(/resource_specification\.funcx.*wall/s);
  });
});

describe('the result connection of stock clients', () => {
  test('brings a private authority within the URL, as a Python dict', () => {
    const url = withAuthority('amqps://u:p@host:5671/funcx', '-----BEGIN CERTIFICATE-----\nAB+/=\n-----END CERTIFICATE-----\n');
    const options = new URL(url).searchParams.get('ssl_options');
    expect(options).toBe(String.raw`{'cadata': '-----BEGIN CERTIFICATE-----\nAB+/=\n-----END CERTIFICATE-----\n'}`);
  });

  test('is left alone without TLS', () => {
    expect(withAuthority('amqp://u:p@host/funcx', 'PEM')).toBe('amqp://u:p@host/funcx');
  });
});

describe('errors at the border', () => {
  test('a lost engine is 503 and says nothing of itself', () => {
    for (const code of ['ECONNREFUSED', '57P01', '57014', '08006', '53300']) {
      const error = translateError(Object.assign(new Error('connect 10.0.0.7:5432'), { code }));
      expect(error).toMatchObject({ code: 'UNAVAILABLE', httpStatus: 503 });
      expect(error.retryAfterS).toBeGreaterThan(0);
      expect(JSON.stringify(errorBody(error, 'id'))).not.toContain('10.0.0.7');
    }
  });

  test('a NUL that the store refuses is refused with the name of its field', () => {
    const refused = Object.assign(new Error('invalid byte sequence'), { code: '22021' });
    const messageOf = (body: unknown): string => translateError(refused, body).message;
    expect(messageOf({ function_name: 'f', meta: { tags: ['a', 'b\0'] } })).toContain('the field meta.tags.1 contains a NUL');
    expect(messageOf({ meta: { 'a\0b': 1 } })).toContain('the field meta.a\\0b contains a NUL');
    expect(messageOf(undefined)).toContain('a NUL character or JSON that is nested too deeply');
  });

  test('what nobody expected is 500 and says nothing of itself', () => {
    const body = errorBody(translateError(new Error('relation "secret" does not exist')), 'id');
    expect(body).toMatchObject({ code: 'INTERNAL', status: 500 });
    expect(JSON.stringify(body)).not.toContain('secret');
  });

  test('a body has the strings that the stock clients read, and the problem fields', () => {
    const body = errorBody(new TerminalError('ENDPOINT_NOT_FOUND', 'endpoint x does not exist'), 'the-request');
    expect(body).toEqual({
      code: 'ENDPOINT_NOT_FOUND',
      message: 'endpoint x does not exist',
      request_id: 'the-request',
      type: 'urn:funcx:error:ENDPOINT_NOT_FOUND',
      title: ERROR_CATALOGUE.ENDPOINT_NOT_FOUND.meaning,
      status: 404,
      detail: 'endpoint x does not exist',
    });
  });
});
