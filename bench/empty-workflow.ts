/** The reference: a workflow that does nothing. Its round trip is the cost of any durable execution on this server. */
export async function empty(): Promise<void> {}
