/** The yardstick: a workflow that does nothing. Its round trip is what the Temporal server asks of anything durable. */
export async function empty(): Promise<void> {}
