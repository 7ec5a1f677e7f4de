/** Addresses of the broker as clients are told them. */

/** The public address with these credentials in it. */
export function withCredentials(publicUrl: string, user: { name: string; password: string }): string {
  const url = new URL(publicUrl);
  url.username = user.name;
  url.password = user.password;
  return url.toString();
}

/**
 * pika, within the stock clients, trusts a private authority only when the URL brings it: `ssl_options` is a Python dict
 * literal (protocol/globus-compute-4, section 6.4).
 */
export function withAuthority(url: string, authority: string | undefined): string {
  if (authority === undefined || !url.startsWith('amqps:')) return url;
  const pem = authority.replace(/\r/g, '').replace(/\n/g, '\\n');
  return `${url}?ssl_options=${encodeURIComponent(`{'cadata': '${pem}'}`)}`;
}
