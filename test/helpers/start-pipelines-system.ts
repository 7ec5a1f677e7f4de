import startSystem from './start-system';

/** As for every layer, but values between steps of a pipeline may be large: they pass by reference. */
export default function startPipelinesSystem(): void {
  process.env.FUNCX_MAX_BODY_CHARS = '100000000';
  process.env.FUNCX_MAX_REQUEST_BYTES = '150000000';
  startSystem();
}
