/** HTTP client of the service, shared by the SDK, the Temporal plugin and the agent. */
export { ApiError, ConnectionError } from './errors';
export { ServiceHttp, type HttpRequest } from './http';
export { resolveOptions, type ClientOptions } from './options';
