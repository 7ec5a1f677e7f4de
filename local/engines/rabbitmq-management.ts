const ASK_MS = 3_000;

/** Sends a request to RabbitMQ's management API. The URL contains the user and the password. Rejects after 3 s. */
export async function askManagement(address: string, path: string, method = 'GET'): Promise<Response> {
  const url = new URL(address);
  const credentials = Buffer.from(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`).toString('base64');
  return fetch(`${url.origin}/api/${path}`, {
    method,
    headers: { authorization: `Basic ${credentials}` },
    signal: AbortSignal.timeout(ASK_MS),
  });
}
