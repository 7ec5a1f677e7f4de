import type { Layout } from '../machine/layout';
import type { PortName, Ports } from '../machine/ports';
import type { ProcessRegistry } from './process-registry';

export interface StartContext {
  layout: Layout;
  cacheDir: string;
  ports: Ports;
  registry: ProcessRegistry;
  say: (line: string) => void;
  /** Aborted when the start is given up, or when the system stops. */
  signal: AbortSignal;
  onChange: () => void;
}

export const SERVICE_NAMES = ['postgres', 'temporal', 'rabbitmq', 'api', 'workers', 'endpoint'] as const;
export type ServiceName = (typeof SERVICE_NAMES)[number];
/** A process of a service: the second and later ones have a number. */
export type ReplicaName = ServiceName | `${ServiceName}-${number}`;

/** Ports, by engine, that move when they are busy. Other ports are fixed by clients, or private. */
export const ENGINE_PORTS: Record<'postgres' | 'temporal' | 'rabbitmq', PortName[]> = {
  postgres: ['postgres'],
  temporal: ['temporal', 'temporalUi'],
  rabbitmq: ['amqp', 'amqps', 'management', 'erlangDistribution', 'epmd'],
};
