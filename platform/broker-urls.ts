/** Addresses of the broker for clients. */

export function withCredentials(publicUrl: string, user: { name: string; password: string }): string {
  const url = new URL(publicUrl);
  url.username = user.name;
  url.password = user.password;
  return url.toString();
}

/**
 * Adds a private certificate authority. pika, which the stock clients use, reads it only from the URL: `ssl_options` is a
 * Python dict literal (pika: `connection.py`, `URLParameters`).
 */
export function withAuthority(url: string, authority: string | undefined): string {
  if (authority === undefined || !url.startsWith('amqps:')) return url;
  const pem = authority.replace(/\r/g, '').replace(/\n/g, '\\n');
  return `${url}?ssl_options=${encodeURIComponent(`{'cadata': '${pem}'}`)}`;
}
