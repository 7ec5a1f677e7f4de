/**
 * Runs a program in a network namespace of its own, where "localhost" has only the ports that it is given: clients with
 * fixed addresses (localhost:5000 and :6000) so reach a system that runs on other ports.
 *
 *   unshare -rn node run-in-own-loopback.mjs <folder of sockets> <port,port,...> -- program argument...
 *
 * With a file "hosts" in the folder, names are looked up there; that needs a mount namespace as well (unshare -rnm).
 * Each port leads to the Unix socket <folder>/<port>, which is outside of namespaces; own-loopback.ts listens there.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { connect, createServer } from 'node:net';

const [folder, ports, , command, ...args] = process.argv.slice(2);
spawnSync('ip', ['link', 'set', 'lo', 'up'], { stdio: 'inherit' });
if (existsSync(`${folder}/hosts`)) spawnSync('mount', ['--bind', `${folder}/hosts`, '/etc/hosts'], { stdio: 'inherit' });

for (const port of ports.split(',')) {
  const server = createServer({ allowHalfOpen: true }, (inside) => {
    const outside = connect({ path: `${folder}/${port}`, allowHalfOpen: true });
    inside.pipe(outside).pipe(inside);
    // An end by reset must reach the program as one: clients tell it from a regular close. A Unix socket knows no reset.
    inside.on('error', () => outside.destroy());
    outside.on('error', () => inside.resetAndDestroy());
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(Number(port), '127.0.0.1', resolve));
}

const child = spawn(command, args, { stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('error', (error) => {
  console.error(String(error));
  process.exit(127);
});
child.on('exit', (code) => process.exit(code ?? 1));
