import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** `rabbitmqctl` starts an Erlang node, which takes a while on a busy machine. */
const CONTROL_MS = 60_000;

export interface NodeControl {
  command: string;
  /** Arguments that precede the arguments of `rabbitmqctl` itself. */
  args: readonly string[];
  env: NodeJS.ProcessEnv;
}

/**
 * Frees the name of a quorum queue that was deleted while the node could not start it. The node (ra 2.2 of RabbitMQ 3.10:
 * `ra_directory:unregister_name` and `register_name`) keeps the name together with the folder of the deleted queue. Without this
 * call, the node would look at each later start for the new queue of this name in a folder that does not exist. If a queue of
 * this name already runs, the name is registered for that queue.
 */
export async function freeQueueName({ command, args, env }: NodeControl, vhost: string, queue: string): Promise<void> {
  const name = Buffer.from(`${vhost}_${queue}`).toString('base64');
  const expression =
    `#{names := #{directory := Servers, directory_rev := Names}} = ra_system:fetch(quorum_queues), ` +
    `Name = binary_to_atom(base64:decode(<<"${name}">>), utf8), ` +
    `ok = dets:delete(Names, Name), ` +
    `[ok = dets:insert(Names, {Name, Id}) || {Id, _, _, Running, _} <- ets:tab2list(Servers), Running =:= Name], ` +
    `ok = dets:sync(Names).`;
  await run(command, [...args, 'eval', expression], { env, timeout: CONTROL_MS });
}

/** Asked while the health of the node is watched, so a node that hangs must not take long. */
const ELECT_MS = 15_000;

/**
 * Starts an election in each quorum queue without a leader. Returns the queues that had none, and how many others still start.
 *
 * The node writes the folder of a new quorum queue down half a second late (ra 2.2 of RabbitMQ 3.10:
 * `ra_directory:register_name`). If it is killed before, its next start finds no folder, and starts an empty queue in which nobody
 * calls an election (`rabbit_quorum_queue:recover`, `name_not_registered`). Each request to this queue hangs, while the management
 * interface names the node as its leader. In a node that stands alone, an election harms no queue.
 */
export async function electLeaders(
  { command, args, env }: NodeControl,
  vhost: string,
): Promise<{ elected: string[]; starting: number }> {
  const expression =
    `[begin State =:= follower andalso (catch ra:trigger_election({Name, node()})), ` +
    `[atom_to_binary(Name, utf8), atom_to_binary(State, utf8)] end || ` +
    `Row <- ets:tab2list(ra_state), Name <- [element(1, Row)], State <- [element(2, Row)], State =/= leader].`;
  const { stdout } = await run(command, [...args, '--formatter', 'json', 'eval', expression], { env, timeout: ELECT_MS });
  const { value = [] } = JSON.parse(stdout) as { value?: [name: string, state: string][] };
  const without = value.filter(([, state]) => state === 'follower').map(([name]) => name.replace(`${vhost}_`, ''));
  return { elected: without, starting: value.length - without.length };
}
