import { join } from 'node:path';

import { DEFAULT_PORTS, isFree, nextFreePort, readPorts, rememberPorts } from '../machine/ports';
import { UserError } from '../machine/user-error';
import { ENGINE_PORTS } from '../processes/start-context';

import type { Layout } from '../machine/layout';
import type { PortName, Ports } from '../machine/ports';
import type { UpOptions } from './options';

/** Ports that clients have built in. They never move automatically. */
const FIXED: Partial<Record<PortName, string>> = { api: 'API', ws: 'results WebSocket' };

const NAMES = Object.keys(DEFAULT_PORTS) as PortName[];

export interface ChosenPorts {
  ports: Ports;
  /** For each port that had to move, the requested port. */
  moved: Map<PortName, number>;
}

const portsFile = (layout: Layout): string => join(layout.runDir, 'ports.json');

/**
 * Chooses a port for each name: the port from the command line, the port of the last start, or the default. If an engine's port
 * is busy, the next free port is used. If ports of the API are busy, throws a {@link UserError} that names them all and says what
 * to do.
 */
export async function choosePorts(layout: Layout, options: UpOptions, external: ReadonlySet<PortName>): Promise<ChosenPorts> {
  const remembered = readPorts(portsFile(layout));
  const taken = new Set<number>();
  const moved = new Map<PortName, number>();
  const ports: Ports = { ...DEFAULT_PORTS };
  const busy: { part: string; name: PortName; port: number }[] = [];
  for (const name of NAMES) {
    if (external.has(name)) continue;
    const asked = options.ports[name];
    const usual = asked ?? DEFAULT_PORTS[name];
    const first = asked === undefined || asked === 0 ? (remembered[name] ?? usual) : asked;
    const isAnyFine = usual === 0 || first === 0;
    const part = FIXED[name];
    if (part !== undefined && !isAnyFine && !(await isFree(first))) {
      busy.push({ part, name, port: first });
      taken.add(first);
      continue;
    }
    // Do not search upwards from a kept port that was chosen as any free port.
    const start = isAnyFine && first !== 0 && !(await isFree(first)) ? 0 : first;
    ports[name] = await nextFreePort(start, taken);
    if (!isAnyFine && ports[name] !== first) moved.set(name, first);
    taken.add(ports[name]);
  }
  if (busy.length > 0) throw new UserError(busy.map(busyText).join('\n'));
  rememberPorts(portsFile(layout), ports);
  return { ports, moved };
}

/** Moves the ports of an engine that became busy after they were chosen. Returns true if a port moved. */
export async function moveTakenPorts(layout: Layout, engine: keyof typeof ENGINE_PORTS, chosen: ChosenPorts): Promise<boolean> {
  let hasMoved = false;
  for (const name of ENGINE_PORTS[engine]) {
    const port = chosen.ports[name];
    if (await isFree(port)) continue;
    chosen.ports[name] = await nextFreePort(port, new Set(Object.values(chosen.ports)));
    chosen.moved.set(name, chosen.moved.get(name) ?? port);
    hasMoved = true;
  }
  if (hasMoved) rememberPorts(portsFile(layout), chosen.ports);
  return hasMoved;
}

function busyText({ part, name, port }: { part: string; name: PortName; port: number }): string {
  const flag = name === 'api' ? '--api-port' : '--ws-port';
  const airplay =
    process.platform === 'darwin' && port === DEFAULT_PORTS.api
      ? ' On macOS this is usually AirPlay: turn off "AirPlay Receiver" in System Settings, General, AirDrop & Handoff.'
      : '';
  const clients = port === DEFAULT_PORTS[name] ? ' (the stock clients look for it there)' : '';
  return `Port ${port} of the ${part}${clients} is in use by another program: stop that program, or move the ${part} with ${flag} ${port + 1}.${airplay}`;
}
