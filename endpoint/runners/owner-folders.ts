import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

import type { Confinement, Place } from './confinement';
import { OWN } from './runner';

/**
 * Where function code works.
 *
 * | who | working folder | home | temporary folder |
 * |---|---|---|---|
 * | the endpoint's owner | `tasks` | as the agent's, or `tasks` where another user runs function code | as the agent's |
 * | every other owner | `owners/<key>/work` | the same | `owners/<key>/tmp`, emptied when the owner's last worker ends |
 * | each worker, isolated | `cells/<id>/work`, removed with the worker | the same | a `/tmp` of its own, in memory |
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

  /** Removes what an earlier agent, which was killed, left behind. */
  async clean(): Promise<void> {
    const temporary = list(this.#owners).map((owner) => path.join(this.#owners, owner, 'tmp'));
    const cells = list(this.#cells).map((cell) => path.join(this.#cells, cell));
    await Promise.all([...temporary.map((folder) => this.#empty(folder)), ...cells.map((cell) => this.#removeCell(cell))]);
  }

  /** The place of a process that serves no owner yet, or of the owner that is given. */
  placeOf(owner?: string): Place {
    const { confinement } = this.options;
    if (confinement.isIsolated) return this.#makeCell();
    const folder = owner === undefined ? undefined : this.folderOf(owner);
    if (folder === undefined) {
      // A failure shows when the process is spawned. A function may have removed the folder.
      tryTo(() => fs.mkdirSync(confinement.runDir, { recursive: true }));
      tryTo(() => this.#make(this.#owners));
      return { cwd: confinement.runDir, env: {}, writable: [confinement.runDir, this.#owners] };
    }
    return {
      cwd: folder.runDir,
      env: { FUNCX_RUN_DIR: folder.runDir, HOME: folder.runDir, TMPDIR: folder.tmpDir },
      writable: [folder.runDir, folder.tmpDir],
    };
  }

  /** Makes the folders of an owner. Undefined where a process keeps the place that it was started in. */
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

  /** The last process of an owner has ended. */
  ownerLeft(owner: string): void {
    if (owner === OWN || this.options.confinement.isIsolated) return;
    void this.#empty(path.join(this.#owners, owner, 'tmp'));
  }

  /** The process of a place has ended. */
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

  /** A way through, which function code cannot change: what lies in it is never a link that somebody put there. */
  #make(folder: string): void {
    fs.mkdirSync(folder, { recursive: true, mode: 0o711 });
  }

  #makeWritable(folder: string): void {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { user } = this.options.confinement;
    if (user !== undefined) fs.chownSync(folder, user.uid, user.gid);
  }

  async #removeCell(cell: string): Promise<void> {
    await this.#empty(path.join(cell, 'work'));
    tryTo(() => fs.rmSync(cell, { recursive: true, force: true }));
  }

  /**
   * Empties a folder as the user that wrote into it: function code may swap folders for links while this runs, and a root
   * agent must not follow them.
   */
  async #empty(folder: string): Promise<void> {
    if (!fs.existsSync(folder)) return;
    const script = 'chmod -R u+rwX . 2>/dev/null; find . -mindepth 1 -delete';
    const child = spawn('/bin/sh', ['-c', script], { ...this.options.confinement.user, cwd: folder, env: {}, stdio: 'ignore' });
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
    // see the caller
  }
}
