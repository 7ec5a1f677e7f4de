export interface BrokerLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
}
