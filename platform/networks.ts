import { BlockList, isIP, isIPv4 } from 'node:net';

/** Networks and IP addresses, in particular those that the public internet does not route. */

const SPECIAL_IPV4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
];
/** All addresses outside 2000::/3 are special, and so are these networks. Some of them embed an IPv4 address. */
const SPECIAL_IPV6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'];
const PUBLIC_IPV6 = '2000::/3';

const special = networksOf([...SPECIAL_IPV4, ...SPECIAL_IPV6]);
const publicIPv6 = networksOf([PUBLIC_IPV6]);
const MAPPED_IPV4 = /^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i;

/** True for an IP address or a network, such as `10.1.2.3`, `fd00::1` and `10.0.0.0/8`. */
export function isNetwork(text: string): boolean {
  const [address = '', length, ...rest] = text.split('/');
  const version = isIP(address);
  if (version === 0 || rest.length > 0) return false;
  return length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= (version === 4 ? 32 : 128));
}

/** True for addresses such as `https://host/path` and `https://host/*`. The host must not contain a wildcard. */
export function isAllowListEntry(text: string): boolean {
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) return false;
  const { hostname, search, hash, username, password } = new URL(text);
  return hostname !== '' && !hostname.includes('*') && search + hash + username + password === '';
}

/** The networks in a list of addresses and networks, including the IP addresses that are hosts of addresses. */
export function listedNetworks(list: readonly string[]): BlockList {
  const hosts = list.filter((one) => !isNetwork(one)).map((one) => new URL(one).hostname.replace(/^\[|\]$/g, ''));
  return networksOf([...list, ...hosts].filter(isNetwork));
}

/** A list of these networks. Throws if a text is not a network. */
export function networksOf(texts: readonly string[]): BlockList {
  const list = new BlockList();
  for (const text of texts) {
    const [address = '', length] = text.split('/');
    const version = isIPv4(address) ? 'ipv4' : 'ipv6';
    list.addSubnet(address, length === undefined ? (version === 'ipv4' ? 32 : 128) : Number(length), version);
  }
  return list;
}

/** False for addresses in private and other special networks, unless `allowed` contains them. */
export function mayConnectTo(given: string, allowed: BlockList): boolean {
  const address = given.replace(MAPPED_IPV4, '');
  const version = isIPv4(address) ? 'ipv4' : 'ipv6';
  if (allowed.check(address, version)) return true;
  if (special.check(address, version)) return false;
  return version === 'ipv4' || publicIPv6.check(address, 'ipv6');
}
