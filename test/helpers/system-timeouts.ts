/** Real parts on a slow machine: a test waits for conditions with deadlines of its own, below this one. */
jest.setTimeout(120_000);
