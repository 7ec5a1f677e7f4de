export { Broker } from './broker';
export { Consumer } from './consumer';
export { PublishError, Publisher } from './publisher';
export type { BrokerAddress, BrokerLog, BrokerOptions } from './broker';
export type { ConsumerOptions, Delivery } from './consumer';
export type { PublishOptions } from './publisher';
