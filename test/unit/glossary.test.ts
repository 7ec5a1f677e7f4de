import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { readPage, ROOT, tableRows } from '../helpers/readme';

/** Words of HTTP, AMQP and TypeScript, and verbs: words in exported names that are not nouns of the domain. */
const GENERAL_WORDS = new Set(
  `action count backfill done exact exactly in into java overlap parse pause script shown stringify temporal text accept accepted activity all label missed period ref request url allow allowed analysis api authenticated named public raised start update urn validate validated web arguments assert at attribute authorize batch bytes cancelled catalogue code connection container create
   core created data day deadline decode default delay deleted detail document dropped encode end enrolled ensure entry error escape event exception
   exchange exit form func hands header health id idle index input invite is json key letter dead line list lock log lowest make markdown max
   member message ms name never nexus number of offline open option origin outcome over pack packed pattern payload prefix problem progress query queue random
   readiness reason register registered registration report requeued response retryable revoke revoked rule s schema search
   serializer serve service signal socket split status subject submit summary table terminal time transition unpack upload uploaded
   userinfo uuid v version word workflow x`.split(/\s+/),
);
const RETIRED_NAMES = /replay|task_?queue(?!_id\b)|at_once|\bjob/i;
/** Names of Temporal's own task queues. */
const TEMPORAL_NAMES = new Set(['DEFAULT_TASK_QUEUE']);

const [explained = ''] = readPage('docs/glossary.md').split('## Words that are not used');
const rows = tableRows(explained);
const glossary = new Set(rows.map(([word = '']) => word));

const files = ['contracts', 'contracts/http'].flatMap((folder) =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(ROOT, folder, name)),
);
const names = files.flatMap((file) =>
  [...readFileSync(file, 'utf8').matchAll(/^export (?:const|function|class|interface|type) (\w+)/gm)].map(
    ([, name = '']) => name,
  ),
);

/** The words of a name in camel case, Pascal case or capitals, in the singular and without numbers. */
function wordsOf(name: string): string[] {
  return name
    .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
    .replace(/([A-Z]+)([A-Z][a-z])/g, '$1 $2')
    .split(/[\s_]+/)
    .map((word) => singular(word.toLowerCase().replace(/\d+$/, '')));
}

function singular(word: string): string {
  if (word.endsWith('ies')) return `${word.slice(0, -3)}y`;
  if (/(ss|us|is|s)$/.test(word) && (GENERAL_WORDS.has(word) || glossary.has(word))) return word;
  if (/(ch|us)es$/.test(word)) return word.slice(0, -2);
  return word.endsWith('s') ? word.slice(0, -1) : word;
}

test('every noun in an exported name of contracts/ is a word of the glossary', () => {
  const unknown = new Set(
    names.flatMap(wordsOf).filter((word) => word !== '' && !GENERAL_WORDS.has(word) && !glossary.has(word)),
  );
  expect([...unknown].sort()).toEqual([]);
});

test('no exported name of contracts/ holds a retired word', () => {
  expect(names.filter((name) => RETIRED_NAMES.test(name) && !TEMPORAL_NAMES.has(name))).toEqual([]);
});

test('the glossary explains each word once', () => {
  const words = rows.map(([word]) => word);
  expect(words.filter((word, index) => words.indexOf(word) !== index)).toEqual([]);
});
