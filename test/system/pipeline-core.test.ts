import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { buildExamples, exampleWorker, replay, runExample } from '../helpers/pipelines';
import { Agent, openTemporal } from '../helpers/system';

/** The first example: a folder of text files on each of two endpoints, counted where they are, merged on one of them. */

const worker = exampleWorker('map-reduce');
const agents = ['instrument', 'cluster'].map((name) => new Agent(`${name}-${process.pid}`, { FUNCX_WORKERS: '1' }));

/** Two compilations and the starts of agents, on a machine that may be busy. */
const BUILD_MS = 300_000;

beforeAll(async () => {
  buildExamples();
  await Promise.all(agents.map((agent) => agent.start()));
  worker.start();
}, BUILD_MS);

afterAll(async () => {
  await worker.stop();
  await Promise.all(agents.map((agent) => agent.stop()));
});

function folderWith(texts: readonly string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'funcx-texts-'));
  texts.forEach((text, index) => writeFileSync(join(folder, `${index}.txt`), text));
  return folder;
}

test('a pipeline maps a function over the files of two endpoints and reduces what came of it', async () => {
  const folders = [folderWith(['the cat and the dog', 'the end']), folderWith(['a dog', 'and the dog again', 'and so on'])];
  const sites = agents.map((agent, index) => `${agent.name}=${folders[index]}`);
  expect(runExample('map-reduce', 'start', sites)).toBe('4 the\n3 and\n3 dog\n');
  const { client, close } = await openTemporal();
  for await (const { workflowId } of client.workflow.list({ query: "WorkflowType = 'countWordsEverywhere'" })) {
    await replay(workflowId, 'map-reduce');
    break;
  }
  await close();
});
