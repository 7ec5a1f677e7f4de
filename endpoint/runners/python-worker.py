"""Runs Python functions for the agent, one at a time, until its pipe closes.

Frames on file descriptor 3, both ways: two big-endian 32-bit lengths, a JSON header, a UTF-8 body.
In:  {"task_id", "result_serializers"?, "max_result_chars"?, "folder"?} and the task buffer. "folder" comes once, when the
     worker gets its owner: {"run_dir", "tmp_dir"}.
Out: first {"ready": true, "details": {...}}, then per task {"start_ns", "end_ns", "error"?, "interrupted"?, "value"?,
     "output"?} and the result or the traceback text. "error" has "code", "user_message" and, for an exception, "exception": the dotted
     names of its class and its bases. "value" has "type" and "repr" of a result that is not JSON, for a submitter who asked
     for JSON and cannot read anything else. "output" is what was printed, see Output.
Descriptors 1 and 2 are files of the agent, opened for appending, and 4 is its log.

What a function sees follows the stock worker (globus_compute_endpoint.engines.helper.execute_task): GC_TASK_UUID,
GC_TASK_SANDBOX_DIR, the working directory, and a function that is deserialized anew for each call, so that no call sees
what an earlier one left in the function's globals. Only the *compiled* form of source text is kept between calls.
Unlike there, SystemExit and KeyboardInterrupt of user code are answers too; they do not end the worker, coroutines are
awaited, and the state of the process that a function changes is restored after each call (see ProcessState).
"""

import __future__

import _signal  # signal without its enums, which cost as much as the rest of a call's bookkeeping
import builtins
import fcntl
import gc
import json
import linecache
import os
import platform
import signal
import struct
import sys
import time
import traceback
import types
import unicodedata

FD = 3
LOG_FD = 4
MAX_OUTPUT_BYTES = 64 * 1024
MAX_LOGGED_BYTES = 1024 * 1024
LENGTHS = struct.Struct(">II")
SOURCE_IDENTIFIERS = ("st\n", "sd\n")
COMPILED_LIMIT = 256
WORKER_PID = os.getpid()
ADVICE = os.environ.pop("FUNCX_PACKAGE_ADVICE", "")
MAX_EXCEPTION_NAMES = 20
MAX_REPR_CHARS = 4_000
# The repr of a larger result may take long, unless its package is known to summarize.
MAX_REPR_DATA_CHARS = 1_000_000
SUMMARIZING = {"numpy", "pandas", "polars", "scipy", "torch", "xarray"}
# A function may replace json.dumps: answers are encoded by an encoder of our own.
ENCODER = json.JSONEncoder()
DECODER = json.JSONDecoder()


def die_with_agent():
    """A kill -9 of the agent ends a worker in the middle of a call too (Linux; elsewhere the closed pipe must do)."""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        pass  # the agent's group guard still ends us


def flush_of_c():
    """The function that writes out what C code printed, which is buffered apart from Python."""
    try:
        import ctypes

        flush = ctypes.CDLL(None).fflush
        flush.argtypes = (ctypes.c_void_p,)
        return lambda: flush(None)
    except (ImportError, OSError, AttributeError):
        return lambda: None


def write_frame(header, body=""):
    head = ENCODER.encode(header).encode()
    # A lone surrogate in a result's text has no UTF-8 form; it must not cost the whole answer.
    text = body.encode("utf-8", "replace")
    rest = memoryview(LENGTHS.pack(len(head), len(text)) + head + text)
    while rest:
        rest = rest[os.write(FD, rest) :]


class Functions:
    """Deserializes functions; keeps compiled source, never a function."""

    def __init__(self, serializer):
        self.serializer = serializer
        self.compiled = {}

    def load(self, buffer):
        if buffer[:3] not in SOURCE_IDENTIFIERS:
            return self.serializer.deserialize(buffer)
        code = self.compiled.get(buffer)
        name, separator, source = buffer[3:].partition(":")
        if not separator:
            raise ValueError("a source function is sent as name:source")
        if code is None:
            if len(self.compiled) >= COMPILED_LIMIT:
                self.compiled.clear()
            filename = f"<function {name}>"
            source = source.removeprefix("\ufeff")  # a byte order mark of the file
            # The SDK's own exec() hands its `from __future__ import annotations` on to the source; so do we.
            code = compile(source, filename, "exec", __future__.annotations.compiler_flag, True)
            self.compiled[buffer] = code
        # Lets tracebacks show the source line. No modification time: linecache never drops the entry.
        filename = code.co_filename
        source = source.removeprefix("\ufeff")
        if filename not in linecache.cache or linecache.cache[filename][0] != len(source):
            linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        namespace = {}
        exec(code, namespace)
        # Python normalizes identifiers; the name as it was sent may be in another form.
        return namespace[unicodedata.normalize("NFKC", name)]


def split_three(text):
    """Takes the task buffer apart without copying its tail again and again."""
    buffers = []
    at = 0
    while at < len(text):
        newline = text.index("\n", at)
        end = newline + 1 + int(text[at:newline])
        if end > len(text):
            raise ValueError("the task buffer is cut short")
        buffers.append(text[newline + 1 : end])
        at = end
    if len(buffers) != 3:
        raise ValueError(f"a task has 3 buffers (function, arguments, keyword arguments), this one {len(buffers)}")
    return buffers


class ProcessState:
    """What a function may change in this process and must not keep changed for the next one.

    Restored after each call: signal handlers, the alarm timer and the signal mask, os.environ, sys.path, the umask,
    standard output and error, and replaced attributes of the modules below. Everything else (threads, imported modules, the attributes of
    other modules, open files, resource limits) stays as the function left it.
    """

    MODULES = (builtins, json, json.decoder, json.encoder)
    SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGCHLD", "SIGALRM", "SIGPIPE", "SIGUSR1", "SIGUSR2")

    def __init__(self):
        self.environ = os.environ
        self.remember_environ()
        self.path = list(sys.path)
        self.umask = os.umask(0o022)
        os.umask(self.umask)
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.handlers = [(number, _signal.getsignal(number)) for number in self.numbers()]
        self.attributes = [(vars(module), dict(vars(module))) for module in self.MODULES]
        self.streams = [self.stream(1, "stdout"), self.stream(2, "stderr")]

    def numbers(self):
        return [getattr(signal, name) for name in self.SIGNALS if hasattr(signal, name)]

    @staticmethod
    def stream(fd, name):
        """A copy of the descriptor, beyond those that a function is likely to close, and which file it is."""
        copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)
        found = os.fstat(fd)
        return fd, name, copy, (found.st_dev, found.st_ino)

    @staticmethod
    def open_stream(fd, name):
        # closefd: a function that closes sys.stdout must not free descriptor 1 for the next file that is opened.
        setattr(sys, name, open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False))

    def remember_environ(self):
        self.variables = dict(self.environ._data)  # encoded: compared and copied without decoding every variable

    def restore(self):
        for namespace, saved in self.attributes:
            if namespace != saved:  # compares by identity first
                namespace.update(saved)
        for number, handler in self.handlers:
            if handler is not None and _signal.getsignal(number) is not handler:
                _signal.signal(number, handler)
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self.mask)
        os.environ = self.environ
        if self.environ._data != self.variables:
            self.restore_environ()
        if sys.path != self.path:
            sys.path[:] = self.path
        os.umask(self.umask)
        for fd, name, copy, file in self.streams:
            self.restore_stream(fd, name, copy, file)

    def restore_environ(self):
        variables = {os.fsdecode(name): os.fsdecode(value) for name, value in self.variables.items()}
        self.environ.clear()
        self.environ.update(variables)

    def restore_stream(self, fd, name, copy, file):
        try:
            found = os.fstat(fd)
            is_same = (found.st_dev, found.st_ino) == file
        except OSError:
            is_same = False
        if not is_same:
            os.dup2(copy, fd)
        stream = getattr(sys, name, None)
        if stream is not getattr(self, name, None) or getattr(stream, "closed", True):
            self.open_stream(fd, name)
            setattr(self, name, getattr(sys, name))
        else:
            stream.flush()


class Output:
    """What a call and its child processes print: descriptors 1 and 2 append to two files, which are emptied between calls."""

    def __init__(self, state):
        self.state = state
        self.flush_c = flush_of_c()

    def clear(self):
        """Before a call: what threads and children of earlier calls printed meanwhile is nobody's; it goes to the log."""
        for fd in (1, 2):
            size = os.lseek(fd, 0, os.SEEK_END)
            if size > 0:
                os.write(LOG_FD, os.pread(fd, min(size, MAX_LOGGED_BYTES), 0))
                os.ftruncate(fd, 0)

    def take(self):
        """After a call: {"stdout", "stderr"}, or None when nothing was printed. The middle of a long output is cut out."""
        self.flush_c()
        out, err = os.lseek(1, 0, os.SEEK_END), os.lseek(2, 0, os.SEEK_END)
        output = None
        if out or err:
            err_share = min(err, max(MAX_OUTPUT_BYTES // 2, MAX_OUTPUT_BYTES - out))
            output = {
                "stdout": self.read(1, out, MAX_OUTPUT_BYTES - err_share),
                "stderr": self.read(2, err, err_share),
            }
        if self.has_children():
            self.renew()
        else:
            if out:
                os.ftruncate(1, 0)
            if err:
                os.ftruncate(2, 0)
        return output

    @staticmethod
    def read(fd, size, share):
        if size <= share:
            data = os.pread(fd, size, 0)
            return data.decode("utf-8", "replace").replace("\0", "\ufffd")
        half = share // 2
        parts = (os.pread(fd, half, 0), os.pread(fd, half, size - half))
        head, tail = (part.decode("utf-8", "replace").replace("\0", "\ufffd") for part in parts)
        return f"{head}\n[... {size - 2 * half} bytes ...]\n{tail}"

    @staticmethod
    def has_children():
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            return True
        except (ChildProcessError, AttributeError):
            return False

    def renew(self):
        """A child that lives on keeps the files that it has; the next call gets others."""
        import tempfile

        for index, (fd, name, copy, _file) in enumerate(self.state.streams):
            try:
                with tempfile.TemporaryFile(buffering=0) as file:
                    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
                    os.dup2(file.fileno(), fd)
            except OSError:
                os.ftruncate(fd, 0)  # no place for another file
                continue
            os.close(copy)
            self.state.streams[index] = self.state.stream(fd, name)


class Worker:
    def __init__(self):
        import dill
        from globus_compute_sdk.serialize import ComputeSerializer
        from globus_compute_sdk.version import __version__ as sdk_version

        self.serializer = ComputeSerializer()
        self.functions = Functions(self.serializer)
        self.run_dir = os.environ["FUNCX_RUN_DIR"]
        self.sandbox = os.environ.get("FUNCX_SANDBOX") == "1"
        self.interrupted = False
        self.details = {
            "os": platform.platform(),
            "python_version": platform.python_version(),
            "dill_version": dill.__version__,
            "globus_compute_sdk_version": sdk_version,
        }

    def warm_up(self):
        """Pays for lazy imports before the first task does."""
        code = self.serializer.serialize(types.FunctionType((lambda: None).__code__, {}))
        self.serializer.deserialize(code)
        self.serializer.deserialize(self.serializer.serialize(((), {})))
        os.makedirs(self.run_dir, exist_ok=True)
        self.state = ProcessState()
        self.state.restore()
        self.output = Output(self.state)

    def move_to(self, folder):
        """The worker serves one owner from now on, whose folders are these."""
        self.run_dir = os.environ["FUNCX_RUN_DIR"] = os.environ["HOME"] = folder["run_dir"]
        os.environ["TMPDIR"] = folder["tmp_dir"]
        if "tempfile" in sys.modules:
            sys.modules["tempfile"].tempdir = None

    def enter_directory(self, task_id):
        os.environ["GC_TASK_UUID"] = task_id
        directory = self.run_dir
        if self.sandbox:
            directory = os.path.join(directory, task_id)
            os.environ["GC_TASK_SANDBOX_DIR"] = directory
        else:
            os.environ.pop("GC_TASK_SANDBOX_DIR", None)
        try:
            os.chdir(directory)
        except FileNotFoundError:
            os.makedirs(directory, exist_ok=True)
            os.chdir(directory)

    def interrupt(self, number, frame):
        self.interrupted = True
        _signal.default_int_handler(number, frame)

    def call(self, function, args, kwargs):
        """Runs the function with the default handling of Ctrl-C, for it and for its child processes."""
        self.interrupted = False
        _signal.signal(_signal.SIGINT, self.interrupt)
        try:
            value = function(*args, **kwargs)
            if isinstance(value, types.CoroutineType):
                import asyncio

                value = asyncio.run(value)
        finally:
            self.state.restore()
        if isinstance(value, (types.GeneratorType, types.AsyncGeneratorType)):
            kind = "a generator" if isinstance(value, types.GeneratorType) else "an async generator"
            raise TypeError(f"The function returned {kind}, which cannot be sent as a result. Return a list of its items.")
        return value

    def serialize(self, value, serializers):
        if "numpy" in sys.modules and serializers and serializers[0].endswith(".JSONData"):
            try:
                value = json.loads(json.dumps(value, default=number_of))
            except (TypeError, ValueError, RecursionError):
                pass  # not JSON, numpy or not: the next serializer takes it
        data = self.serializer.serialize_from_list(value, serializers)
        if not data.startswith("11\n"):
            self.state.restore()  # __reduce__ and __getstate__ are code of the user too
        return data

    def look_of(self, value, data):
        cls = type(value)
        look = {"type": cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"}
        try:
            if len(data) <= MAX_REPR_DATA_CHARS or cls.__module__.partition(".")[0] in SUMMARIZING:
                text = repr(value)
                look["repr"] = text if len(text) <= MAX_REPR_CHARS else text[:MAX_REPR_CHARS] + "..."
        except Exception:
            pass  # code of the user; the type alone says something
        finally:
            self.state.restore()
        return look

    def execute(self, header, buffer):
        """Returns the answer's header and body. Never raises, whatever the function does."""
        start_ns = time.time_ns()
        error = look = None
        try:
            self.output.clear()
            if "folder" in header:
                self.move_to(header["folder"])
            self.enter_directory(header["task_id"])
            code, args, kwargs = split_three(buffer)
            self.state.remember_environ()
            function = self.functions.load(code)
            args = self.serializer.deserialize(args)
            kwargs = self.serializer.deserialize(kwargs)
            value = self.call(function, args, kwargs)
            serializers = header.get("result_serializers") or ()
            data = self.serialize(value, serializers)
            if not data.startswith("11\n") and serializers and serializers[0].endswith(".JSONData"):
                look = self.look_of(value, data)
            limit = header.get("max_result_chars")
            if limit is not None and len(data) > limit:
                error = {
                    "code": "MaxResultSizeExceeded",
                    "user_message": f"The result has {len(data)} serialized characters; the limit is {limit}.",
                }
                data = f"MaxResultSizeExceeded({len(data)}, {limit})"
        except BaseException as thrown:  # also SystemExit: an answer, see above
            if os.getpid() != WORKER_PID:
                os._exit(1)  # a forked child of user code that came back here must not answer in our name
            self.state.restore()
            error = {
                "code": "RemoteExecutionError",
                "user_message": "An error occurred during the execution of this task",
                "exception": class_names(type(thrown)),
            }
            data = describe(thrown)
        if os.getpid() != WORKER_PID:
            os._exit(0)
        answer = {"start_ns": start_ns, "end_ns": time.time_ns()}
        output = self.output.take()
        if output is not None:
            answer["output"] = output
        if look is not None and error is None:
            answer["value"] = look
        if error is not None:
            answer["error"] = error
            if self.interrupted:
                answer["interrupted"] = True
        return answer, data

    def serve(self):
        write_frame({"ready": True, "details": self.details})
        pipe = open(FD, "rb", buffering=1 << 16, closefd=False)
        while True:
            lengths = pipe.read(LENGTHS.size)
            if len(lengths) < LENGTHS.size:
                return  # the agent is gone, or wants no more of us
            header_length, body_length = LENGTHS.unpack(lengths)
            frame = pipe.read(header_length + body_length)
            if len(frame) < header_length + body_length:
                return
            answer, data = self.execute(DECODER.decode(frame[:header_length].decode()), frame[header_length:].decode())
            write_frame(answer, data)


def number_of(value):
    """A numpy scalar as a number of Python, for json.dumps."""
    if isinstance(value, sys.modules["numpy"].generic):
        return value.item()
    raise TypeError


def class_names(cls):
    """Dotted names of a class and its bases, without `object`: what a retry policy can name."""
    names = [f"{base.__module__}.{base.__qualname__}"[:200] for base in cls.__mro__ if base is not object]
    return names[:MAX_EXCEPTION_NAMES]


def package_hint(thrown):
    if not isinstance(thrown, ModuleNotFoundError) or not thrown.name:
        return ""
    advice = ADVICE or f"{sys.executable} -m pip install PACKAGE"
    return f"The Python of this endpoint ({sys.executable} on {platform.node()}) has no {thrown.name}. To add it there: {advice}\n"


def describe(thrown):
    """The traceback as text, without the frames of this file."""
    try:
        report = traceback.TracebackException.from_exception(thrown)
        if any(frame.filename != __file__ for frame in report.stack):
            report.stack[:] = [frame for frame in report.stack if frame.filename != __file__]
        return "".join(report.format()) + package_hint(thrown)
    except BaseException:  # a __str__ or __repr__ of user code that raises
        return f"{type(thrown).__name__}: <the exception has no printable text>\n"


def main():
    die_with_agent()
    os.set_inheritable(FD, False)
    os.set_inheritable(LOG_FD, False)
    # Ctrl-C goes to the agent, which decides. Functions run with the default handling, see Worker.call.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker()
    worker.warm_up()
    # dill resolves functions of the submitter's __main__ in ours: give them an empty one, not this file.
    sys.modules["__main__"] = types.ModuleType("__main__")
    gc.collect()
    gc.freeze()
    try:
        worker.serve()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the agent is gone
    finally:
        if os.getpid() == WORKER_PID:
            sys.stdout.flush()
            sys.stderr.flush()
    os._exit(0)  # threads of user code do not keep the worker alive


if __name__ == "__main__":
    main()
