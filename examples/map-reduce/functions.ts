import { pythonFunction } from '@funcx-temporal/sdk/workflow';

/** The functions run where the files are, so only counts travel. */

export const listFiles = pythonFunction<[folder: string], string[]>({
  name: 'list_files',
  source: `
    def list_files(folder):
        from pathlib import Path
        return sorted(str(path) for path in Path(folder).glob("*.txt"))
  `,
});

export const countWords = pythonFunction<[path: string], Record<string, number>>({
  name: 'count_words',
  source: `
    def count_words(path):
        import re
        from collections import Counter
        with open(path, encoding="utf-8") as file:
            return dict(Counter(re.findall(r"[a-z']+", file.read().lower())))
  `,
});

export const mergeCounts = pythonFunction<[counts: Record<string, number>[], most: number], [string, number][]>({
  name: 'merge_counts',
  source: `
    def merge_counts(counts, most):
        from collections import Counter
        total = Counter()
        for one in counts:
            total.update(one)
        return sorted(total.items(), key=lambda item: (-item[1], item[0]))[:most]
  `,
});
