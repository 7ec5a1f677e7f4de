'use strict';

/**
 * Runs JavaScript functions for the agent, one at a time, until its pipe closes.
 *
 * Frames on file descriptor 3 as in python-worker.py. In: {"task_id", "max_result_chars", "folder"?} and a JSON body
 * [code, args text, kwargs text], with the code as `name:source`. Out: first {"ready": true, "details"}, then for each call
 * {"start_ns", "end_ns", "error"?, "output"?, "last"?} and the result or the text of the error. After an answer with "last", the
 * process ends. "output" is what the call printed: descriptors 1 and 2 are files of the agent, opened for appending, which are
 * emptied between calls. What is written to descriptor 4 goes to the log of workers.
 * The source is a function expression, or statements that declare `name`. It is evaluated again for each call.
 *
 * Events that would end a Node process (an unhandled rejection, a throw in a timer, process.exit) fail only the call that caused
 * them. The asynchronous context identifies that call.
 */

const { AsyncLocalStorage } = require('node:async_hooks');

const { createRequire } = require('node:module');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const util = require('node:util');
const v8 = require('node:v8');
const vm = require('node:vm');

/** Hint for a ReferenceError. */
const OUTSIDE =
  'Only the text of a function is sent: it cannot use what is outside it, such as imports and functions that a compiler adds. ' +
  'Compile for ES2022 or later, without minifying, and call require inside the function.';

/** A process that uses more of its heap than this after a call is replaced, because the function leaks memory. */
const MAX_HEAP_SHARE = 0.5;

const COMPILED_LIMIT = 256;
const LOG_FD = 4;
/** Limit for both streams together. */
const MAX_OUTPUT_BYTES = 64 * 1024;
const MAX_LOGGED_BYTES = 1024 * 1024;
/** Limit of the text of an error. */
const MAX_TEXT_CHARS = 64 * 1024;
let runDir = process.env.FUNCX_RUN_DIR ?? process.cwd();
let requireFromRunDir = createRequire(path.join(runDir, 'task.js'));
const compiled = new Map();
const current = new AsyncLocalStorage();
// Saved, because a function may replace them.
const exitProcess = process.exit.bind(process);
const { parse: parseJson, stringify: stringifyJson } = JSON;
const environment = { ...process.env };

const pipe = new net.Socket({ fd: 3, readable: true, writable: true });
pipe.on('error', () => exitProcess(0));
pipe.on('end', () => exitProcess(0));
pipe.on('close', () => exitProcess(0));

function writeFrame(header, body) {
  const head = Buffer.from(stringifyJson(header));
  const text = Buffer.from(body);
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32BE(head.length, 0);
  lengths.writeUInt32BE(text.length, 4);
  pipe.write(Buffer.concat([lengths, head, text]), () => header.last && exitProcess(0));
}

class ProcessExit extends Error {}
ProcessExit.prototype.name = 'ProcessExit';

/** Fails the call that caused an uncaught error. If the call has already ended, the error is only logged. */
function onUncaught(thrown) {
  const call = current.getStore();
  fs.writeSync(LOG_FD, util.format('uncaught, in a function that %s: %o\n', call?.isOpen ? 'runs' : 'has ended', thrown));
  call?.fail(thrown);
}
process.on('uncaughtException', onUncaught);
process.on('unhandledRejection', onUncaught);
process.exit = (code) => {
  const error = new ProcessExit(`The function called process.exit(${code ?? ''}). A function ends when it returns or throws.`);
  current.getStore()?.fail(error);
  throw error;
};

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
    const header = parseJson(pending.toString('utf8', 8, headEnd));
    const body = pending.toString('utf8', headEnd, end);
    pending = pending.subarray(end);
    const [answer, data] = await execute(header, body);
    writeFrame(answer, data);
    if (answer.last) return; // reads no more frames: the process ends once the answer is written
  }
  isReading = true;
}

const nowNs = () => Math.round((performance.timeOrigin + performance.now()) * 1e6);

/** Moves output that was printed between calls to the log, because it belongs to no call. */
function clearOutput() {
  for (const fd of [1, 2]) {
    const { size } = fs.fstatSync(fd);
    if (size === 0) continue;
    fs.writeSync(LOG_FD, readAt(fd, Math.min(size, MAX_LOGGED_BYTES), 0));
    fs.ftruncateSync(fd);
  }
}

/** Returns what the call and its child processes printed. The middle of a long output is cut out. */
function takeOutput() {
  const [out, err] = [fs.fstatSync(1).size, fs.fstatSync(2).size];
  if (out + err === 0) return undefined;
  const errShare = Math.min(err, Math.max(MAX_OUTPUT_BYTES / 2, MAX_OUTPUT_BYTES - out));
  const output = { stdout: readCut(1, out, MAX_OUTPUT_BYTES - errShare), stderr: readCut(2, err, errShare) };
  if (out > 0) fs.ftruncateSync(1);
  if (err > 0) fs.ftruncateSync(2);
  return output;
}

function readCut(fd, size, share) {
  const text = (length, position) => readAt(fd, length, position).toString('utf8').replaceAll('\0', '\uFFFD');
  if (size <= share) return text(size, 0);
  const half = Math.floor(share / 2);
  return `${text(half, 0)}\n[... ${size - 2 * half} bytes ...]\n${text(half, size - half)}`;
}

function readAt(fd, length, position) {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, position));
}

async function execute(header, body) {
  const startNs = nowNs();
  clearOutput();
  const call = { isOpen: true, isBroken: false, fail: undefined };
  const failed = new Promise((_resolve, reject) => {
    call.fail = (thrown) => {
      call.isBroken ||= call.isOpen; // the process is replaced, which ends everything else that the function left running
      reject(thrown);
    };
  });
  failed.catch(() => undefined); // it may reject after the call has ended
  let answer;
  let data;
  try {
    const value = await Promise.race([failed, current.run(call, () => run(header, body))]);
    // A rejection without a handler is reported in the next turn of the event loop.
    await Promise.race([failed, new Promise(setImmediate)]);
    data = `11\n${write(value, 'result', []) ?? 'null'}`;
    answer = { start_ns: startNs, end_ns: nowNs() };
    // The agent counts characters of smaller results; one character has at most two units.
    if (data.length > 2 * header.max_result_chars) [answer.error, data] = tooLarge(data.length, header.max_result_chars);
  } catch (thrown) {
    const error = {
      code: 'RemoteExecutionError',
      user_message: 'An error occurred during the execution of this task',
      exception: classNames(thrown),
    };
    data = cut(describe(thrown));
    answer = { start_ns: startNs, end_ns: nowNs(), error };
  }
  call.isOpen = false;
  restore();
  answer.output = takeOutput();
  const { used_heap_size: used, heap_size_limit: limit } = v8.getHeapStatistics();
  if (call.isBroken || used > limit * MAX_HEAP_SHARE) answer.last = true;
  return [answer, data];
}

function tooLarge(length, limit) {
  const error = {
    code: 'MaxResultSizeExceeded',
    user_message: `The result has ${length} serialized characters; the limit is ${limit}.`,
  };
  return [error, `MaxResultSizeExceeded(${length}, ${limit})`];
}

function cut(text) {
  const half = MAX_TEXT_CHARS / 2 - 4;
  return text.length <= MAX_TEXT_CHARS ? text : `${text.slice(0, half)}\n[...]\n${text.slice(-half)}`;
}

/** Called when the worker gets its owner: from now on, calls use the folders of that owner. */
function moveTo(folder) {
  runDir = folder.run_dir;
  requireFromRunDir = createRequire(path.join(runDir, 'task.js'));
  Object.assign(environment, { FUNCX_RUN_DIR: runDir, HOME: runDir, TMPDIR: folder.tmp_dir });
  Object.assign(process.env, environment);
}

async function run(header, body) {
  if (header.folder) moveTo(header.folder);
  const [code, argsText, kwargsText] = parseJson(body);
  process.env.GC_TASK_UUID = header.task_id;
  fs.mkdirSync(runDir, { recursive: true });
  process.chdir(runDir);
  const args = parseJson(argsText);
  const kwargs = parseJson(kwargsText);
  if (Object.keys(kwargs).length > 0) args.push(kwargs);
  return load(code)(...args);
}

/** Undoes changes that a function made to JSON and the environment variables of this process. */
function restore() {
  Object.assign(JSON, { parse: parseJson, stringify: stringifyJson });
  for (const name of Object.keys(process.env)) if (!(name in environment)) delete process.env[name];
  for (const [name, value] of Object.entries(environment)) if (process.env[name] !== value) process.env[name] = value;
}

/** Returns JSON text. Throws a TypeError for values that JSON.stringify drops or changes. A bigint becomes an integer. */
function write(given, place, parents) {
  const value = typeof given?.toJSON === 'function' && !ArrayBuffer.isView(given) ? given.toJSON() : given;
  if (value === undefined) return undefined;
  if (typeof value === 'bigint') return String(value);
  const refuse = (what) => {
    throw new TypeError(`The ${place} of the function ${what}, which JSON cannot hold. Convert it before you return it.`);
  };
  if (typeof value === 'function' || typeof value === 'symbol') refuse(`is a ${typeof value}`);
  if (typeof value === 'number' && !Number.isFinite(value)) refuse(`is ${value}`);
  if (typeof value !== 'object' || value === null) return stringifyJson(value);
  if (parents.includes(value)) refuse('refers to itself');
  const inside = [...parents, value];
  if (Array.isArray(value))
    return `[${Array.from(value, (item, at) => write(item, `${place}[${at}]`, inside) ?? 'null').join(',')}]`;
  if (util.types.isBoxedPrimitive(value)) return stringifyJson(value);
  const isOther = util.types.isMap(value) || util.types.isSet(value) || util.types.isPromise(value) || util.types.isRegExp(value);
  if (isOther || util.types.isNativeError(value) || util.types.isAnyArrayBuffer(value) || ArrayBuffer.isView(value)) {
    refuse(`is of type ${value.constructor?.name}`);
  }
  const members = Object.entries(value).flatMap(([key, item]) => {
    const text = write(item, `${place}.${key}`, inside);
    return text === undefined ? [] : [`${stringifyJson(key)}:${text}`];
  });
  return `{${members.join(',')}}`;
}

function load(code) {
  let script = compiled.get(code);
  if (!script) {
    script = compile(code);
    if (compiled.size >= COMPILED_LIMIT) compiled.clear();
    compiled.set(code, script);
  }
  const loaded = script.runInThisContext()(requireFromRunDir, keepName);
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
    return wrap('(function (require, __name) { return (', '\n); })');
  } catch {
    // Not an expression, so the source has statements that declare `name`. A SyntaxError here is an error of the function.
    return wrap('(function (require, __name) { ', `\n;return ${name}; })`);
  }
}

/** Replaces a helper that is not sent with the function: esbuild and tsx wrap inner functions in `__name(fn, 'name')`. */
function keepName(target, value) {
  return Object.defineProperty(target, 'name', { value, configurable: true });
}

/** Returns the names of the class of an error and its bases, which a retry policy can name. */
function classNames(thrown) {
  if (!(thrown instanceof Error)) return undefined;
  const names = [thrown.name];
  for (let proto = Object.getPrototypeOf(thrown); proto && proto !== Object.prototype; proto = Object.getPrototypeOf(proto)) {
    names.push(proto.constructor?.name);
  }
  const found = names.filter((name) => typeof name === 'string' && name !== '').map((name) => name.slice(0, 200));
  return [...new Set(found)].slice(0, 20);
}

function describe(thrown) {
  if (thrown instanceof Error || typeof thrown?.stack === 'string') {
    // Remove the stack frames of this file.
    const lines = String(thrown.stack).split('\n');
    if (thrown instanceof ProcessExit) return `${lines[0]}\n`;
    const own = lines.findIndex((line) => line.includes(__filename));
    const hint = thrown instanceof ReferenceError ? `\n${OUTSIDE}` : '';
    return `${(own < 0 ? lines : lines.slice(0, own)).join('\n')}${hint}\n`;
  }
  return `Error: ${util.inspect(thrown)}\n`;
}

writeFrame(
  { ready: true, details: { os: `${os.type()}-${os.release()}-${os.arch()}`, node_version: process.versions.node } },
  '',
);
