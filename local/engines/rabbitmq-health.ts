import { askManagement } from './rabbitmq-management';

/**
 * Finds faults that keep a running node from serving. A full disk can end the processes of the virtual host or of quorum queues
 * (seen with 3.10): connections stay open and health checks pass, but nothing is consumed or confirmed. A restart starts these
 * processes again, except the process of a queue whose log the full disk damaged (`corrupt_log`). Such a queue can only be
 * deleted; the service then dispatches the affected tasks again.
 */

/** Reading all queues costs more than reading one queue. */
const LIST_EVERY_POLLS = 5;
/** After the start of its node, a queue with a long log needs a while to start. */
const DAMAGED_AFTER_MS = 30_000;

interface QueueRow {
  name: string;
  type?: string;
  leader?: string | null;
}

export interface HealthOptions {
  managementUrl: string;
  vhost: string;
  /** A quorum queue that exists whenever the service runs. */
  queue: string;
  /** Called with the name of each queue that was deleted because it could not be started; see `freeQueueName`. */
  freeName: (queue: string) => Promise<void>;
  say: (line: string) => void;
}

export class RabbitmqHealth {
  #polls = 0;
  /** True once every queue has had a leader since the start of the node. */
  #wasWhole = false;
  #without = new Set<string>();
  #withoutSinceMs = 0;

  constructor(private readonly options: HealthOptions) {}

  /** Call before each start of the node. */
  reset(): void {
    this.#wasWhole = false;
    this.#without.clear();
    this.#polls = 0;
  }

  /** Returns why only a restart helps, or undefined if nothing is wrong. Deletes queues that a restart could not start. */
  async findFault(): Promise<string | undefined> {
    if (await this.#isVhostStopped()) return 'its virtual host is stopped';
    const { without, isOfAll } = await this.#withoutLeader();
    // A queue has no leader for a moment while it is being created.
    const still = new Set(without.filter((name) => this.#without.has(name)));
    if (still.size === 0) this.#withoutSinceMs = Date.now();
    this.#without = new Set(without);
    this.#wasWhole ||= isOfAll && without.length === 0;
    if (still.size === 0) return undefined;
    if (this.#wasWhole) return describe(still);
    if (Date.now() - this.#withoutSinceMs >= DAMAGED_AFTER_MS) await this.#remove(still);
    return undefined;
  }

  async #isVhostStopped(): Promise<boolean> {
    const answer = await this.#ask(`vhosts/${this.options.vhost}?columns=cluster_state`);
    const { cluster_state: nodes = {} } = (await answer.json()) as { cluster_state?: Record<string, string> };
    return Object.values(nodes).some((state) => state !== 'running');
  }

  async #withoutLeader(): Promise<{ without: string[]; isOfAll: boolean }> {
    const { vhost, queue } = this.options;
    const columns = 'columns=name,type,leader';
    const isListDue = this.#without.size > 0 || this.#polls++ % LIST_EVERY_POLLS === 0;
    // With statistics, the list of 600 queues keeps the node busy for 0.3 s.
    const list = `queues/${vhost}?disable_stats=true&${columns}`;
    const answer = await this.#ask(isListDue ? list : `queues/${vhost}/${queue}?${columns}`);
    if (!answer.ok) return { without: [], isOfAll: false }; // before the service has created its queues
    const rows = [(await answer.json()) as QueueRow | QueueRow[]].flat();
    const without = rows.filter(({ type, leader }) => type === 'quorum' && (leader === null || leader === ''));
    return { without: without.map(({ name }) => name), isOfAll: isListDue };
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

function describe(names: ReadonlySet<string>): string {
  const [first = '', ...others] = names;
  return others.length === 0
    ? `its queue ${first} has no leader`
    : `its queues ${first} and ${others.length} more have no leader`;
}
