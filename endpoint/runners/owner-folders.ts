import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

import { confine, type Confinement, type Place } from './confinement';
import { OWN } from './runner';

/**
 * The folders in which function code works.
 *
 * | who | working folder | home | temporary folder |
 * |---|---|---|---|
 * | the endpoint's owner | `tasks` | as for the agent, or `tasks` if another user runs function code | as for the agent |
 * | every other owner | `owners/<key>/work` | the working folder | `owners/<key>/tmp`, emptied after the owner's last worker |
 * | each isolated worker | `cells/<id>/work`, removed with the worker | the working folder | its own `/tmp`, in memory |
 */

export interface OwnerFolder {
  runDir: string;
  tmpDir: string;
}

interface Options {
  confinement: Confinement;
  log: { warn(fields: object, text: string): void };
}

export class OwnerFolders {
  readonly #owners: string;
  readonly #cells: string;

  constructor(private readonly options: Options) {
    const { dir } = options.confinement;
    this.#owners = path.join(dir, 'owners');
    this.#cells = path.join(dir, 'cells');
  }

  /** Removes files that an earlier agent left behind because it was killed. */
  async clean(): Promise<void> {
    const temporary = list(this.#owners).map((owner) => path.join(this.#owners, owner, 'tmp'));
    const cells = list(this.#cells).map((cell) => path.join(this.#cells, cell));
    await Promise.all([
      ...temporary.map((folder) => this.#empty(folder, this.#owners)),
      ...cells.map((cell) => this.#removeCell(cell)),
    ]);
  }

  /** Returns the place of a process for this owner, or of a process that has no owner yet. */
  placeOf(owner?: string): Place {
    const { confinement } = this.options;
    if (confinement.isIsolated) return this.#makeCell();
    const folder = owner === undefined ? undefined : this.folderOf(owner);
    if (folder === undefined) {
      // A function may have removed the folder. If it cannot be created, spawning the process fails.
      tryTo(() => fs.mkdirSync(confinement.runDir, { recursive: true }));
      tryTo(() => this.#make(this.#owners));
      return { cwd: confinement.runDir, env: {}, writable: [confinement.runDir, this.#owners] };
    }
    return {
      cwd: folder.runDir,
      env: { FUNCX_RUN_DIR: folder.runDir, HOME: folder.runDir, TMPDIR: folder.tmpDir },
      writable: this.#mayHaveLinks ? [this.#owners] : [folder.runDir, folder.tmpDir],
    };
  }

  /**
   * True if function code may have replaced the folders of owners by links. It runs as the agent's user and can write to all of
   * `owners`, because a worker process gets its owner after its sandbox is made. A mount of such a folder would follow the link
   * out of the sandbox, but `owners` itself cannot be replaced.
   */
  get #mayHaveLinks(): boolean {
    return this.options.confinement.user === undefined;
  }

  /** Creates the folders of an owner. Returns undefined if the process keeps the place in which it was started. */
  folderOf(owner: string): OwnerFolder | undefined {
    if (owner === OWN || this.options.confinement.isIsolated) return undefined;
    const base = path.join(this.#owners, owner);
    const folder = { runDir: path.join(base, 'work'), tmpDir: path.join(base, 'tmp') };
    this.#make(this.#owners);
    this.#make(base);
    this.#makeWritable(folder.runDir);
    this.#makeWritable(folder.tmpDir);
    return folder;
  }

  /** Call it when the last process of an owner has ended. */
  ownerLeft(owner: string): void {
    if (owner === OWN || this.options.confinement.isIsolated) return;
    void this.#empty(path.join(this.#owners, owner, 'tmp'), this.#owners);
  }

  /** Call it when the process of a place has ended. */
  placeLeft({ cwd }: Place): void {
    const cell = path.dirname(cwd);
    if (path.dirname(cell) === this.#cells) void this.#removeCell(cell);
  }

  #makeCell(): Place {
    const cell = path.join(this.#cells, randomUUID());
    const work = path.join(cell, 'work');
    this.#make(this.#cells);
    this.#make(cell);
    this.#makeWritable(work);
    return { cwd: work, env: { FUNCX_RUN_DIR: work, HOME: work, TMPDIR: '/tmp' }, writable: [work] };
  }

  /** Creates a folder that function code can pass through but not change, so that it contains no links of function code. */
  #make(folder: string): void {
    fs.mkdirSync(folder, { recursive: true, mode: 0o711 });
  }

  #makeWritable(folder: string): void {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { user } = this.options.confinement;
    if (user !== undefined) fs.chownSync(folder, user.uid, user.gid);
  }

  async #removeCell(cell: string): Promise<void> {
    await this.#empty(path.join(cell, 'work'), cell);
    tryTo(() => fs.rmSync(cell, { recursive: true, force: true }));
  }

  /**
   * Empties a folder as the user that runs function code, and in its sandbox: function code may replace folders by links, at any
   * time, and neither an agent with root rights nor an agent whose user runs function code may follow the links. `mounted` is the
   * nearest folder that function code cannot replace.
   */
  async #empty(folder: string, mounted: string): Promise<void> {
    if (!fs.lstatSync(folder, { throwIfNoEntry: false })?.isDirectory()) return;
    const { limits: _, controlGroups: _groups, ...confinement } = this.options.confinement;
    const script = 'cd "$0" || exit; chmod -R u+rwX . 2>/dev/null; find . -mindepth 1 -delete';
    const place = { cwd: mounted, env: {}, writable: [mounted] };
    const { command, args, ...user } = confine(confinement, '/bin/sh', ['-c', script, folder], place);
    const child = spawn(command, args, { ...user, cwd: mounted, env: { PATH: process.env.PATH }, stdio: 'ignore' });
    const problem = await new Promise<string | undefined>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code) => resolve(code === 0 ? undefined : `find ended with code ${code ?? 'none'}`));
    });
    if (problem !== undefined) this.options.log.warn({ folder, reason: problem }, 'a folder of function code was not emptied');
  }
}

function list(folder: string): string[] {
  return fs.existsSync(folder) ? fs.readdirSync(folder) : [];
}

function tryTo(action: () => void): void {
  try {
    action();
  } catch {
    // ignored, see the callers
  }
}
