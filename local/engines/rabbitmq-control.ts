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
