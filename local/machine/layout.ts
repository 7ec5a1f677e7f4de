import { createHash } from 'node:crypto';
import { accessSync, chmodSync, constants, existsSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The root of the checkout. This file runs from `dist/local/machine/`; in tests, from `local/machine/`. */
export const REPOSITORY = existsSync(join(__dirname, '..', '..', 'package.json'))
  ? resolve(__dirname, '..', '..')
  : resolve(__dirname, '..', '..', '..');

export const DEFAULT_DATA_DIR = join(REPOSITORY, '.funcx-data');

const PRIVATE = 0o700;
/** Lets the system user that runs PostgreSQL reach its own folder. Private files have their own mode. */
const PASSABLE = 0o711;

export interface Layout {
  dataDir: string;
  /** A short name for the data folder. Names that must be unique on one machine contain it. */
  hash: string;
  secretsDir: string;
  tlsDir: string;
  runDir: string;
  logsDir: string;
  postgresDir: string;
  temporalDir: string;
  rabbitmqDir: string;
  endpointsDir: string;
}

export function layoutOf(dataDir: string): Layout {
  const absolute = resolve(dataDir);
  return {
    dataDir: absolute,
    hash: createHash('sha256').update(absolute).digest('hex').slice(0, 10),
    secretsDir: join(absolute, 'secrets'),
    tlsDir: join(absolute, 'tls'),
    runDir: join(absolute, 'run'),
    logsDir: join(absolute, 'logs'),
    postgresDir: join(absolute, 'postgres'),
    temporalDir: join(absolute, 'temporal'),
    rabbitmqDir: join(absolute, 'rabbitmq'),
    endpointsDir: join(absolute, 'endpoints'),
  };
}

export function makeFolders(layout: Layout): void {
  mkdirSync(layout.dataDir, { recursive: true });
  chmodSync(layout.dataDir, process.getuid?.() === 0 ? PASSABLE : PRIVATE);
  for (const folder of [layout.secretsDir, layout.runDir, layout.logsDir, layout.temporalDir, layout.rabbitmqDir]) {
    mkdirSync(folder, { recursive: true, mode: PRIVATE });
  }
  mkdirSync(layout.endpointsDir, { recursive: true, mode: PRIVATE });
  // The user that runs function code must be able to reach its own folder.
  if (process.getuid?.() === 0) chmodSync(layout.endpointsDir, PASSABLE);
  // Everybody may read the authority's certificate. The private keys in this folder have mode 600.
  mkdirSync(layout.tlsDir, { recursive: true, mode: PASSABLE });
}

/** Where downloads are kept between starts: `<checkout>/.cache`, or the data folder if the checkout is not writable. */
export function cacheDirOf(layout: Layout): string {
  const wanted = process.env.FUNCX_CACHE_DIR ?? join(REPOSITORY, '.cache');
  try {
    mkdirSync(wanted, { recursive: true });
    accessSync(wanted, constants.W_OK);
    return wanted;
  } catch {
    const own = join(layout.dataDir, 'cache');
    if (!existsSync(own)) mkdirSync(own, { recursive: true });
    return own;
  }
}

export const logFileOf = (layout: Layout, name: string): string => join(layout.logsDir, `${name}.log`);
