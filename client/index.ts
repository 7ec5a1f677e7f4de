/** HTTP client of the service and the format of enrolment codes, shared by the SDK, the Temporal plugin and the agent. */
export { decodeEnrolmentCode, encodeEnrolmentCode, type EnrolmentCode } from './enrolment-code';
export { ApiError, ConnectionError } from './errors';
export { ServiceHttp, type HttpRequest } from './http';
export { resolveOptions, type ClientOptions } from './options';
