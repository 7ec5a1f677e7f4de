import { COMPUTE_SCOPE } from '../contracts/scopes';

/** The services that an Action may name. Addresses are compared without a slash at the end. */

export type Provider = 'compute-v3' | 'compute-v2' | 'hello' | 'http';

const HELLO_SCOPE = 'https://auth.globus.org/scopes/actions.globus.org/hello_world';

const PROVIDERS: Record<string, { provider: Provider; scope: string }> = {
  'https://compute.actions.globus.org/v3': { provider: 'compute-v3', scope: COMPUTE_SCOPE },
  'https://compute.actions.globus.org': { provider: 'compute-v2', scope: COMPUTE_SCOPE },
  'https://compute.actions.globus.org/fxap': { provider: 'compute-v2', scope: COMPUTE_SCOPE },
  'https://automate.funcx.org': { provider: 'compute-v2', scope: COMPUTE_SCOPE },
  'https://api.funcx.org/automate': { provider: 'compute-v2', scope: COMPUTE_SCOPE },
  'https://dev.funcx.org/automate': { provider: 'compute-v2', scope: COMPUTE_SCOPE },
  'https://actions.globus.org/hello_world': { provider: 'hello', scope: HELLO_SCOPE },
};

const TRANSFER = /^https:\/\/(?:transfer\.actions\.globus\.org|actions\.globus\.org\/transfer)(?:\/|$)/;

export type FoundProvider = { provider: Provider; url: string; scope?: string } | { refused: string };

export function findProvider(given: string, allowedUrls: readonly string[]): FoundProvider {
  const url = given.replace(/\/+$/, '');
  const known = Object.prototype.hasOwnProperty.call(PROVIDERS, url) ? PROVIDERS[url] : undefined;
  if (known) return { ...known, url };
  if (isAllowed(url, allowedUrls)) return { provider: 'http', url };
  if (TRANSFER.test(url)) {
    return {
      refused: `${url} moves data with Globus Transfer, which this service does not do; move data in a function on an endpoint`,
    };
  }
  return {
    refused: `${url} is not a provider of this service; use https://compute.actions.globus.org/v3, or ask the operator to allow the address for actions over HTTP`,
  };
}

function isAllowed(url: string, allowedUrls: readonly string[]): boolean {
  return allowedUrls.some((allowed) => {
    if (!allowed.includes('://')) return false; // a network
    if (allowed.endsWith('/*'))
      return url.startsWith(allowed.slice(0, -1)) && !/(?:^|\/)\.\.?(?:\/|$)|[?#@\\]|%2e/i.test(url.slice(8));
    return url === allowed.replace(/\/+$/, '');
  });
}
