export { Broker } from './broker';
export { BrokerRefusal } from './channel';
export { Consumer } from './consumer';
export { PublishError, Publisher } from './publisher';
export type { BrokerAddress, BrokerOptions } from './broker';
export type { BrokerChannel, KeptChannel, QueueOptions, QueueState } from './channel';
export type { ConsumerOptions, ReceivedMessage } from './consumer';
export type { BrokerLog } from './log';
export type { PublishOptions } from './publisher';
