/** A browser without scripts: keeps cookies, follows redirects and refreshing pages, and sends forms. */
export class Browser {
  readonly #cookies = new Map<string, Map<string, string>>();
  url = '';
  status = 0;
  page = '';

  async open(address: string, form?: Record<string, string>): Promise<this> {
    let url = new URL(address, this.url || undefined);
    let body = form;
    for (let hop = 0; hop < 20; hop++) {
      const jar = this.#cookies.get(url.host) ?? new Map<string, string>();
      this.#cookies.set(url.host, jar);
      const response = await fetch(url, {
        method: body ? 'POST' : 'GET',
        redirect: 'manual',
        headers: { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; ') },
        ...(body ? { body: new URLSearchParams(body) } : {}),
      });
      for (const cookie of response.headers.getSetCookie()) {
        const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(cookie) ?? [];
        if (value === '') jar.delete(name);
        else jar.set(name, value);
      }
      this.url = url.toString();
      this.status = response.status;
      this.page = await response.text();
      const next =
        response.headers.get('location') ?? unescapeHtml(/http-equiv="refresh" content="0; url=([^"]+)"/.exec(this.page)?.[1]);
      if (next === undefined) return this;
      url = new URL(next, url);
      body = undefined;
    }
    throw new Error(`more than 20 redirects, the last one to ${this.url}`);
  }

  /** Sends the form of the page whose address ends with `action`, with these fields in addition to its hidden ones. */
  async submit(action: string, fields: Record<string, string> = {}): Promise<this> {
    const forms = [...this.page.matchAll(/<form[^>]*action="([^"]*)"[^>]*>(.*?)<\/form>/gs)];
    const form = forms.find(([, address = '']) => address.endsWith(action));
    if (!form) throw new Error(`the page ${this.url} has no form for ${action}:\n${this.page}`);
    return this.open(form[1] ?? '', { ...hiddenFields(form[2] ?? ''), ...fields });
  }

  forgetCookies(): void {
    this.#cookies.clear();
  }
}

function hiddenFields(html: string): Record<string, string> {
  const inputs = [...html.matchAll(/<input[^>]*type="hidden"[^>]*>/g)].map(([input]) => input);
  return Object.fromEntries(
    inputs.map((input) => [/name="([^"]*)"/.exec(input)?.[1] ?? '', unescapeHtml(/value="([^"]*)"/.exec(input)?.[1]) ?? '']),
  );
}

const unescapeHtml = (text: string | undefined): string | undefined =>
  text
    ?.replace(/&#(\d+);/g, (_whole, code: string) => String.fromCharCode(Number(code)))
    .replaceAll('&amp;', '&')
    .replaceAll('&quot;', '"');
