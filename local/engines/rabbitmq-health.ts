import { askManagement } from './rabbitmq-management';

/**
 * Finds faults that keep a running node from serving. A full disk can end the processes of the virtual host or of queues (seen
 * with 3.10): connections stay open and health checks pass, but nothing is consumed or confirmed. If one process of an ending
 * virtual host hangs, the host counts as running for ten minutes, while its classic queues are stopped. A restart starts
 * these processes again, except the process of a quorum queue whose log the full disk damaged (`corrupt_log`). Such a queue can
 * only be deleted; the service then dispatches the affected tasks again. A queue that was new when its node was killed may start
 * without a leader, which the management interface does not show.
 */

/** Reading all queues costs more than reading one queue. */
const LIST_EVERY_POLLS = 5;
/** After the start of its node, a queue with a long log needs a while to start. */
const DAMAGED_AFTER_MS = 30_000;

/** Asking for the leaders starts an Erlang node. It is repeated while queues start. */
const ELECT_EVERY_MS = 10_000;
const ELECT_TRIES = 6;

/** The node is not started again for the same queue within this time, or a little longer. */
const START_AGAIN_MS = 3_600_000;
const RUNNING = new Set(['live', 'running']);
const STOPPED = new Set(['stopped', 'crashed']);

interface QueueRow {
  name: string;
  type?: string;
  leader?: string | null;
  /** Of classic queues: `live` (3.x) or `running` (4.x), `stopped` or `crashed`. */
  state?: string;
}

export interface HealthOptions {
  managementUrl: string;
  vhost: string;
  /** A quorum queue that exists whenever the service runs. */
  queue: string;
  /** True when the node has stopped listening for AMQP connections. */
  isDeaf: () => Promise<boolean>;
  /** Called with the name of each queue that was deleted because it could not be started; see `freeQueueName`. */
  freeName: (queue: string) => Promise<void>;
  /** See `electLeaders`. */
  elect: () => Promise<{ elected: readonly string[]; starting: number }>;
  say: (line: string) => void;
}

export class RabbitmqHealth {
  #polls = 0;
  /** True once every queue has had a leader since the start of the node. */
  #wasWhole = false;
  #without = new Set<string>();
  #withoutSinceMs = 0;
  /** Classic queues that have run since the start of the node. A restart may help only these. */
  #hasRun = new Set<string>();
  #stopped = new Set<string>();
  /** Queues for which the node is to be started again. */
  #fault: readonly string[] = [];
  /** Queues for which the node was started again lately, and when. */
  readonly #startedFor = new Map<string, number>();

  /** 0 when every queue that started has a leader. */
  #electionsLeft = ELECT_TRIES;
  #electedAtMs = 0;

  constructor(private readonly options: HealthOptions) {}

  /** Call before each start of the node. */
  reset(): void {
    for (const [name, ms] of this.#startedFor) if (Date.now() - ms > START_AGAIN_MS) this.#startedFor.delete(name);
    for (const name of this.#fault) this.#startedFor.set(name, Date.now());
    this.#fault = [];
    this.#wasWhole = false;
    this.#without.clear();
    this.#hasRun.clear();
    this.#stopped.clear();
    this.#polls = 0;
    this.#electionsLeft = ELECT_TRIES;
    this.#electedAtMs = 0;
  }

  /** Returns why only a restart helps, or undefined if nothing is wrong. Deletes queues that a restart could not start. */
  async findFault(): Promise<string | undefined> {
    // A node that was asked to stop, and hangs: it no longer answers the questions below.
    if (await this.options.isDeaf()) return 'it does not listen any more';
    if (await this.#isVhostStopped()) return 'its virtual host is stopped';
    if (this.#electionsLeft > 0 && Date.now() - this.#electedAtMs >= ELECT_EVERY_MS) await this.#elect();
    const { rows, isOfAll } = await this.#readQueues();
    const stopped = isOfAll ? this.#findStopped(rows) : [];
    if (isOfAll) this.#fault = stopped;
    if (stopped.length > 0) return `${describe(stopped)} stopped`;
    const without = rows
      .filter(({ type, leader }) => type === 'quorum' && (leader === null || leader === ''))
      .map(({ name }) => name);
    // A queue has no leader for a moment while it is being created.
    const still = new Set(without.filter((name) => this.#without.has(name)));
    if (still.size === 0) this.#withoutSinceMs = Date.now();
    this.#without = new Set(without);
    this.#wasWhole ||= isOfAll && without.length === 0;
    if (still.size === 0) return undefined;
    if (this.#wasWhole) return `${describe([...still])} without a leader`;
    if (Date.now() - this.#withoutSinceMs >= DAMAGED_AFTER_MS) await this.#remove(still);
    return undefined;
  }

  async #elect(): Promise<void> {
    const { elect, say } = this.options;
    const atMs = Date.now();
    this.#electedAtMs = atMs;
    this.#electionsLeft--;
    try {
      const { elected, starting } = await elect();
      if (this.#electedAtMs !== atMs) return; // the node was started again meanwhile
      if (elected.length + starting === 0) this.#electionsLeft = 0;
      if (elected.length > 0) say(`rabbitmq started without a leader for ${name(elected)}; an election was started`);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.#electionsLeft === 0) say(`rabbitmq may have started queues without a leader, and cannot be asked: ${reason}`);
    }
  }

  async #isVhostStopped(): Promise<boolean> {
    const answer = await this.#ask(`vhosts/${this.options.vhost}?columns=cluster_state`);
    const { cluster_state: nodes = {} } = (await answer.json()) as { cluster_state?: Record<string, string> };
    return Object.values(nodes).some((state) => state !== 'running');
  }

  /**
   * Returns the classic queues that ran and do not run any more, twice in a row. A queue that stops again soon after the node was
   * started for it does not count, unless most queues stop: all users would lose their broker for it, again and again.
   */
  #findStopped(rows: readonly QueueRow[]): string[] {
    const classic = rows.filter(({ type }) => type === 'classic');
    const ended = classic.filter(({ name, state = '' }) => STOPPED.has(state) && this.#hasRun.has(name));
    const isWide = ended.length * 2 > classic.length;
    const stopped = ended.filter(({ name }) => isWide || !this.#startedFor.has(name));
    this.#hasRun = new Set(
      classic.filter(({ name, state = '' }) => RUNNING.has(state) || this.#hasRun.has(name)).map(({ name }) => name),
    );
    const still = stopped.filter(({ name }) => this.#stopped.has(name)).map(({ name }) => name);
    this.#stopped = new Set(stopped.map(({ name }) => name));
    return still;
  }

  async #readQueues(): Promise<{ rows: QueueRow[]; isOfAll: boolean }> {
    const { vhost, queue } = this.options;
    const columns = 'columns=name,type,leader,state';
    const isListDue = this.#without.size + this.#stopped.size > 0 || this.#polls++ % LIST_EVERY_POLLS === 0;
    // With statistics, the list of 600 queues keeps the node busy for 0.3 s.
    const list = `queues/${vhost}?disable_stats=true&${columns}`;
    const answer = await this.#ask(isListDue ? list : `queues/${vhost}/${queue}?${columns}`);
    if (!answer.ok) return { rows: [], isOfAll: false }; // before the service has created its queues
    return { rows: [(await answer.json()) as QueueRow | QueueRow[]].flat(), isOfAll: isListDue };
  }

  async #remove(names: ReadonlySet<string>): Promise<void> {
    const { vhost, say, freeName } = this.options;
    for (const name of names) {
      const answer = await this.#ask(`queues/${vhost}/${encodeURIComponent(name)}`, 'DELETE');
      say(
        answer.ok
          ? `rabbitmq could not start the queue ${name}, so it was deleted; its messages are sent again`
          : `rabbitmq could not start the queue ${name}, and its removal failed with status ${answer.status}`,
      );
      if (!answer.ok) continue;
      await freeName(name).catch((error: unknown) => {
        const reason = error instanceof Error ? error.message : String(error);
        say(`rabbitmq may be unable to start the next queue ${name} as well, each time it starts: ${reason}`);
      });
    }
    this.#without.clear();
  }

  #ask(path: string, method?: string): Promise<Response> {
    return askManagement(this.options.managementUrl, path, method);
  }
}

function describe(queues: readonly string[]): string {
  return `its ${name(queues)} ${queues.length === 1 ? 'is' : 'are'}`;
}

function name([first = '', ...others]: readonly string[]): string {
  return others.length === 0 ? `queue ${first}` : `queues ${first} and ${others.length} more`;
}
