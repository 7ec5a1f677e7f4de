export { Broker } from './broker';
export { BrokerRefusal, isSurelyEmpty } from './channel';
export { Consumer } from './consumer';
export { PublishError, Publisher } from './publisher';
export { splitBatch } from './split-batch';
export type { BrokerAddress } from './broker';
export type { BrokerChannel, QueueOptions } from './channel';
export type { ConsumerOptions, ReceivedBatch, ReceivedMessage } from './consumer';
