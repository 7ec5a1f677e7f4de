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

/** Function code can pass through `owners`, but not list it. */
const OWNERS_MODE = 0o711;
/** Start of the name of a folder that could not be used. The next start of the agent removes it. */
const BROKEN = 'broken-';
/** The errors that function code can cause by changing the folder of its owner. */
const DAMAGE = new Set(['EACCES', 'EPERM', 'EEXIST', 'ENOENT', 'ENOTDIR', 'ELOOP']);

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
    if (this.#isChangeable) tryTo(() => fs.chmodSync(this.#owners, OWNERS_MODE));
    const owners = this.#list(this.#owners);
    const temporary = owners.filter((name) => !name.startsWith(BROKEN)).map((owner) => path.join(this.#owners, owner, 'tmp'));
    const broken = owners.filter((name) => name.startsWith(BROKEN)).map((name) => path.join(this.#owners, name));
    const cells = this.#list(this.#cells).map((cell) => path.join(this.#cells, cell));
    await Promise.all([
      ...temporary.map((folder) => this.#empty(folder, this.#owners)),
      ...broken.map(async (folder) => {
        await this.#empty(folder, this.#owners);
        tryTo(() => fs.rmdirSync(folder));
        tryTo(() => fs.unlinkSync(folder)); // a link or a file
      }),
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
      writable: this.#isChangeable ? [this.#owners] : [folder.runDir, folder.tmpDir],
    };
  }

  /**
   * True if function code may have changed the folders of owners: their rights, or links in their place. It runs as the agent's
   * user and can write to all of `owners`, because a worker process gets its owner after its sandbox is made. A mount of such a
   * folder would follow the link out of the sandbox, but `owners` itself cannot be replaced.
   */
  get #isChangeable(): boolean {
    return this.options.confinement.user === undefined;
  }

  /** Creates the folders of an owner. Returns undefined if the process keeps the place in which it was started. */
  folderOf(owner: string): OwnerFolder | undefined {
    if (owner === OWN || this.options.confinement.isIsolated) return undefined;
    const base = path.join(this.#owners, owner);
    const folder = { runDir: path.join(base, 'work'), tmpDir: path.join(base, 'tmp') };
    const make = (): void => {
      this.#make(base);
      if (!fs.lstatSync(base).isDirectory()) throw Object.assign(new Error(`${base} is no folder`), { code: 'ENOTDIR' });
      this.#makeWritable(folder.runDir);
      this.#makeWritable(folder.tmpDir);
    };
    this.#make(this.#owners);
    try {
      make();
    } catch (error) {
      if (!this.#isChangeable) throw error;
      fs.chmodSync(this.#owners, OWNERS_MODE);
      this.#makeAgain(base, make);
    }
    return folder;
  }

  /** Creates the folders of an owner; if function code has made that impossible, in a new folder. */
  #makeAgain(base: string, make: () => void): void {
    try {
      make();
    } catch (error) {
      if (!DAMAGE.has((error as NodeJS.ErrnoException).code ?? '')) throw error; // such as a full disk
      this.options.log.warn({ folder: base, reason: String(error) }, 'the folder of an owner cannot be used; making a new one');
      // A rename follows no link, and needs no rights on what it moves.
      fs.renameSync(base, path.join(this.#owners, BROKEN + randomUUID()));
      make();
    }
  }

  /** Call it when the last process of an owner has ended. */
  ownerLeft(owner: string): void {
    if (owner === OWN || this.options.confinement.isIsolated) return;
    void this.#empty(path.join(this.#owners, owner, 'tmp'), this.#owners);
  }

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
    fs.mkdirSync(folder, { recursive: true, mode: OWNERS_MODE });
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
   * nearest folder that function code cannot replace. Never rejects.
   */
  async #empty(folder: string, mounted: string): Promise<void> {
    const warn = (reason: string): void => this.options.log.warn({ folder, reason }, 'a folder of function code was not emptied');
    try {
      if (!fs.lstatSync(folder, { throwIfNoEntry: false })?.isDirectory()) return;
      const problem = await this.#runEmptying(folder, mounted);
      if (problem !== undefined) warn(problem);
    } catch (error) {
      warn(String(error)); // function code may have taken the rights away
    }
  }

  async #runEmptying(folder: string, mounted: string): Promise<string | undefined> {
    const { limits: _, controlGroups: _groups, ...confinement } = this.options.confinement;
    const script = 'chmod u+rwx "$0" 2>/dev/null; cd "$0" || exit; chmod -R u+rwX . 2>/dev/null; find . -mindepth 1 -delete';
    const place = { cwd: mounted, env: {}, writable: [mounted] };
    const { command, args, ...user } = confine(confinement, '/bin/sh', ['-c', script, folder], place);
    const child = spawn(command, args, { ...user, cwd: mounted, env: { PATH: process.env.PATH }, stdio: 'ignore' });
    return new Promise<string | undefined>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code) => resolve(code === 0 ? undefined : `find ended with code ${code ?? 'none'}`));
    });
  }

  #list(folder: string): string[] {
    try {
      return fs.existsSync(folder) ? fs.readdirSync(folder) : [];
    } catch (error) {
      this.options.log.warn({ folder, reason: String(error) }, 'a folder of function code cannot be read');
      return [];
    }
  }
}

function tryTo(action: () => void): void {
  try {
    action();
  } catch {
    // ignored, see the callers
  }
}
