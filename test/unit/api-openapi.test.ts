import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { allRoutes } from '../../api/app';
import type { ApiDeps } from '../../api/deps';
import { openApiDocument } from '../../api/openapi';
import { ERROR_CATALOGUE } from '../../contracts/errors';
import { configFor } from '../helpers/api-harness';

const GOLDEN = join(__dirname, '..', 'fixtures', 'openapi.json');

/** Making routes only looks at the configuration; handlers are never called here. */
const routes = () => allRoutes({ config: configFor() } as ApiDeps);

describe('the OpenAPI document', () => {
  test('is the golden file; a public change shows in its diff (FUNCX_UPDATE_GOLDEN=1 writes it)', () => {
    const document = JSON.stringify(openApiDocument(routes()), null, 2) + '\n';
    if (process.env.FUNCX_UPDATE_GOLDEN === '1') writeFileSync(GOLDEN, document);
    expect(document).toBe(readFileSync(GOLDEN, 'utf8'));
  });

  test('names every operation once, and each route needs a token but a few', () => {
    const described = routes();
    const names = described.map(({ method, path }) => `${method} ${path}`);
    expect(new Set(names).size).toBe(names.length);
    expect(described.filter(({ access }) => access === 'open').map(({ path }) => path)).toEqual([
      '/healthz',
      '/readyz',
      '/v2/version',
      '/v2/oauth2/authorize', // the page where one logs in
      '/v2/oauth2/authorize',
      '/v2/oauth2/authorize/provider', // ... and goes on at the identity provider
      '/v2/oauth2/callback',
      '/v1/login',
      '/v2/oauth2/token',
      '/v2/oauth2/token/revoke', // takes the client's own id and secret
      '/v1/endpoints/:id/enrolment', // takes a one-time code
      '/openapi.json',
    ]);
  });

  test('documents every public error', () => {
    const text = JSON.stringify(openApiDocument(routes()));
    for (const [code, { status }] of Object.entries(ERROR_CATALOGUE)) expect(text).toContain(`${status} ${code}: `);
  });
});
