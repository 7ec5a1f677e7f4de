import { call, map } from '@funcx-temporal/sdk/workflow';

import { countWords, listFiles, mergeCounts } from './functions';

export interface Site {
  /** Name of the endpoint. */
  endpoint: string;
  /** A folder on the machine of the endpoint. */
  folder: string;
}

/** The most frequent words in the text files of several sites. */
export async function countWordsEverywhere(sites: Site[], most = 3): Promise<[string, number][]> {
  const counts = await Promise.all(
    sites.map(async ({ endpoint, folder }) => {
      const files = await call(listFiles, [folder], { endpoint });
      return map(
        countWords,
        files.map((file) => [file]),
        { endpoint },
      );
    }),
  );
  const [first] = sites;
  if (!first) return [];
  return call(mergeCounts, [counts.flat(), most], { endpoint: first.endpoint });
}
