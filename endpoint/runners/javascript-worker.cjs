'use strict';

/**
 * Runs JavaScript functions for the agent, one at a time, until its pipe closes.
 *
 * Frames on file descriptor 3 as in python-worker.py. In: {"task_id"} and a JSON body [code, args text, kwargs text], the
 * code as `name:source`. Out: first {"ready": true, "details"}, then {"start_ns", "end_ns", "error"?} and the result.
 * The source is an expression that is a function, or statements that declare `name`; it is evaluated anew for each call.
 */

const { createRequire } = require('node:module');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const util = require('node:util');
const vm = require('node:vm');

const COMPILED_LIMIT = 256;
const runDir = process.env.FUNCX_RUN_DIR ?? process.cwd();
const requireFromRunDir = createRequire(path.join(runDir, 'task.js'));
const compiled = new Map();

const pipe = new net.Socket({ fd: 3, readable: true, writable: true });
pipe.on('error', () => process.exit(0));
pipe.on('end', () => process.exit(0));
pipe.on('close', () => process.exit(0));

function writeFrame(header, body) {
  const head = Buffer.from(JSON.stringify(header));
  const text = Buffer.from(body);
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32BE(head.length, 0);
  lengths.writeUInt32BE(text.length, 4);
  pipe.write(Buffer.concat([lengths, head, text]));
}

let pending = Buffer.alloc(0);
let isReading = true;

pipe.on('data', (chunk) => {
  pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
  if (isReading) void serveNext();
});

async function serveNext() {
  isReading = false;
  while (pending.length >= 8) {
    const headEnd = 8 + pending.readUInt32BE(0);
    const end = headEnd + pending.readUInt32BE(4);
    if (pending.length < end) break;
    const header = JSON.parse(pending.toString('utf8', 8, headEnd));
    const body = pending.toString('utf8', headEnd, end);
    pending = pending.subarray(end);
    const [answer, data] = await execute(header, body);
    writeFrame(answer, data);
  }
  isReading = true;
}

const nowNs = () => Math.round((performance.timeOrigin + performance.now()) * 1e6);

async function execute(header, body) {
  const startNs = nowNs();
  try {
    const [code, argsText, kwargsText] = JSON.parse(body);
    process.env.GC_TASK_UUID = header.task_id;
    process.chdir(runDir);
    const args = JSON.parse(argsText);
    const kwargs = JSON.parse(kwargsText);
    if (Object.keys(kwargs).length > 0) args.push(kwargs);
    const value = await load(code)(...args);
    const data = `11\n${JSON.stringify(value) ?? 'null'}`; // undefined and functions have no JSON
    return [{ start_ns: startNs, end_ns: nowNs() }, data];
  } catch (thrown) {
    const error = { code: 'RemoteExecutionError', user_message: 'An error occurred during the execution of this task' };
    return [{ start_ns: startNs, end_ns: nowNs(), error }, describe(thrown)];
  }
}

function load(code) {
  let script = compiled.get(code);
  if (!script) {
    script = compile(code);
    if (compiled.size >= COMPILED_LIMIT) compiled.clear();
    compiled.set(code, script);
  }
  const loaded = script.runInThisContext()(requireFromRunDir);
  if (typeof loaded !== 'function') throw new TypeError('the source does not define a function');
  return loaded;
}

function compile(code) {
  const colon = code.indexOf(':');
  const name = code.slice(0, colon);
  const source = code.slice(colon + 1);
  if (!/^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(name)) throw new SyntaxError('a JavaScript function is sent as name:source');
  const options = {
    filename: `<function ${name}>`,
    importModuleDynamically: vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  };
  const wrap = (head, tail) => new vm.Script(head + source + tail, { ...options, columnOffset: -head.length });
  try {
    return wrap('(function (require) { return (', '\n); })');
  } catch {
    // Not an expression: declarations, of which `name` is the one to call. Errors here are the user's.
    return wrap('(function (require) { ', `\n;return ${name}; })`);
  }
}

function describe(thrown) {
  if (thrown instanceof Error || typeof thrown?.stack === 'string') {
    // Without the frames of this file.
    const lines = String(thrown.stack).split('\n');
    const own = lines.findIndex((line) => line.includes(__filename));
    return `${(own < 0 ? lines : lines.slice(0, own)).join('\n')}\n`;
  }
  return `Error: ${util.inspect(thrown)}\n`;
}

writeFrame(
  { ready: true, details: { os: `${os.type()}-${os.release()}-${os.arch()}`, node_version: process.versions.node } },
  '',
);
