import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

import { exportJWK, generateKeyPair, importJWK, SignJWT, type JWK, type JWTPayload } from 'jose';

import { Browser } from './browser';
import { freePort } from './own-api';

/** A real OpenID Connect provider in a process of its own, whose keys the test knows. */

/** What the provider's access tokens for the service are for. */
export const AUDIENCE = 'https://funcx.example';
export const CLIENT = { id: 'funcx-api', secret: 'a secret of the service' };

export type ProviderUsers = Record<string, { name: string; groups: string[] }>;

export class TestProvider {
  #process: ChildProcess | undefined;
  #keys: JWK[] = [];

  private constructor(
    readonly port: number,
    private readonly options: { users: ProviderUsers; format?: 'jwt' | 'opaque'; service?: string },
  ) {}

  static async start(options: TestProvider['options']): Promise<TestProvider> {
    const provider = new TestProvider(await freePort(), options);
    await provider.rotateKeys();
    return provider;
  }

  get issuer(): string {
    return `http://localhost:${this.port}`;
  }

  /** Variables of a service whose users are those of the provider. */
  variables(extra: Record<string, string> = {}): Record<string, string> {
    return {
      FUNCX_OIDC_ISSUER: this.issuer,
      FUNCX_OIDC_AUDIENCE: AUDIENCE,
      FUNCX_OIDC_CLIENT_ID: CLIENT.id,
      FUNCX_OIDC_CLIENT_SECRET: CLIENT.secret,
      FUNCX_OIDC_DEVICE_CLIENT_ID: 'funcx-cli',
      FUNCX_OIDC_DEVICE_PARAMETERS: `resource=${AUDIENCE}`,
      FUNCX_OIDC_SCOPES: 'openid profile',
      FUNCX_OIDC_ADMIN_GROUP: 'operators',
      ...extra,
    };
  }

  /** Starts it again with keys of its own kind that nobody has seen. */
  async rotateKeys(): Promise<void> {
    this.#keys = [await makeKey('RS256'), await makeKey('ES256')];
    await this.run();
  }

  async run(): Promise<void> {
    await this.stop();
    const settings = { port: this.port, keys: this.#keys, ...this.options };
    const child = fork(join(__dirname, 'run-oidc-provider.mjs'), [], {
      env: { ...process.env, PROVIDER: JSON.stringify(settings) },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#process = child;
    const lines: string[] = [];
    const collect = (data: Buffer): void => void lines.push(data.toString());
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
    const listens = new Promise<boolean>((resolve) => {
      child.stdout?.on('data', (data: Buffer) => data.toString().includes('listening') && resolve(true));
      child.once('exit', () => resolve(false));
    });
    if (!(await listens)) throw new Error(`the provider of the test did not start: ${lines.join('')}`);
  }

  async stop(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }

  /** An access token as the provider would sign it, but for what `changed` says. Undefined removes a claim. */
  async sign(subject: string, changed: JWTPayload = {}, header: { key?: JWK; typ?: string } = {}): Promise<string> {
    const { name, groups } = this.options.users[subject] ?? { name: subject, groups: [] };
    const key = header.key ?? this.#keys[0]!; // rotateKeys makes some
    const nowS = Math.floor(Date.now() / 1_000);
    const claims = {
      iss: this.issuer,
      sub: subject,
      aud: AUDIENCE,
      iat: nowS,
      exp: nowS + 600,
      preferred_username: name,
      groups,
    };
    const payload = Object.fromEntries(Object.entries({ ...claims, ...changed }).filter(([, value]) => value !== undefined));
    return new SignJWT(payload)
      .setProtectedHeader({ alg: key.alg ?? 'RS256', kid: key.kid, typ: header.typ ?? 'at+jwt' })
      .sign(await importJWK(key));
  }

  /** A token that the provider itself issues to a program. */
  async tokenOfRobot(): Promise<string> {
    const response = await fetch(`${this.issuer}/token`, {
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(`robot:${encodeURIComponent('a secret of the robot')}`).toString('base64')}`,
      },
      body: new URLSearchParams({ grant_type: 'client_credentials', resource: AUDIENCE, scope: 'call' }),
    });
    const body = (await response.json()) as { access_token?: string };
    if (body.access_token === undefined) throw new Error(`no token of the provider: ${JSON.stringify(body)}`);
    return body.access_token;
  }

  /** A token that a user gets by the device flow. */
  async tokenOfUser(subject: string): Promise<string> {
    const ask = async (path: string, form: Record<string, string>): Promise<Record<string, string>> => {
      const body = new URLSearchParams({ client_id: 'funcx-cli', ...form });
      return (await (await fetch(this.issuer + path, { method: 'POST', body })).json()) as Record<string, string>;
    };
    const begun = await ask('/device/auth', { scope: 'openid profile', resource: AUDIENCE, login_hint: subject });
    await confirmDevice(begun.verification_uri_complete ?? '');
    const tokens = await ask('/token', {
      grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
      device_code: begun.device_code ?? '',
    });
    if (tokens.access_token === undefined) throw new Error(`no token of the provider: ${JSON.stringify(tokens)}`);
    return tokens.access_token;
  }

  /** The public part of its first key. */
  get publicKey(): JWK {
    const { kty, n, e } = this.#keys[0]!; // rotateKeys makes some
    return { kty, n, e };
  }
}

/** What a user does in a browser at the address that a device shows. */
export async function confirmDevice(address: string): Promise<void> {
  const browser = await new Browser().open(address);
  await browser.submit('/device'); // what a script would do for the code in the address
  await browser.submit('/device'); // "Continue"
  if (!browser.page.includes('Sign-in Success')) throw new Error(`the device was not confirmed:\n${browser.page}`);
}

export async function makeKey(alg: string): Promise<JWK> {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg, use: 'sig', kid: `${alg}-${Math.random()}` };
}
