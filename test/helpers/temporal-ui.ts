import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

import { chromium, type Browser, type Page } from 'playwright-core';

import { CHROMIUM } from './conditions';
import { state } from './system';
import { until } from './until';

/** The Temporal UI in a real browser, as a person uses it. */
export class TemporalUi {
  private constructor(
    private readonly browser: Browser,
    readonly page: Page,
  ) {}

  static async open(): Promise<TemporalUi> {
    const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
    return new TemporalUi(browser, await browser.newPage({ viewport: { width: 1400, height: 900 }, timezoneId: 'UTC' }));
  }

  /** The list of the workflows that the query finds. */
  async openList(query: string): Promise<void> {
    await this.#goto(`?query=${encodeURIComponent(query)}`);
  }

  /** A tab of a workflow's page; `user-metadata` has the summary and the current details. */
  async openWorkflow(workflowId: string, runId: string, tab: 'user-metadata' | 'timeline' | 'history'): Promise<void> {
    await this.#goto(`/${encodeURIComponent(workflowId)}/${runId}/${tab}`);
  }

  /** Everything that the page shows, once it shows all of `wanted`. The UI draws Markdown in frames of their own. */
  async untilText(what: string, wanted: readonly RegExp[]): Promise<string> {
    let seen = '';
    try {
      return await until(what, async () => {
        const texts = this.page.frames().map((frame) => frame.locator('body').innerText({ timeout: 2_000 }));
        const settled = await Promise.allSettled(texts);
        seen = settled.map((text) => (text.status === 'fulfilled' ? text.value : '')).join('\n');
        return wanted.every((pattern) => pattern.test(seen)) ? seen : undefined;
      });
    } catch (error) {
      const missing = wanted.filter((pattern) => !pattern.test(seen));
      throw new Error(`${what}: the page does not show ${missing.join(', ')}, but:\n${seen}`, { cause: error });
    }
  }

  async screenshot(file: string): Promise<void> {
    mkdirSync(dirname(file), { recursive: true });
    await this.page.screenshot({ path: file });
  }

  async close(): Promise<void> {
    await this.browser.close();
  }

  async #goto(path: string): Promise<void> {
    await this.page.goto(`${state().temporal_ui_url}/namespaces/default/workflows${path}`, { waitUntil: 'domcontentloaded' });
  }
}
