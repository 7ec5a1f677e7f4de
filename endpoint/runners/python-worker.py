"""Runs Python functions for the agent, one at a time, until its pipe closes.

Frames on file descriptor 3, in both directions: two big-endian 32-bit lengths, a JSON header, a UTF-8 body.
In:  {"task_id", "result_serializers"?, "max_result_chars"?, "folder"?} and the task buffer. "folder" is sent once, when the
     worker gets its owner: {"run_dir", "tmp_dir"}.
Out: first {"ready": true, "details": {...}}, then for each task {"start_ns", "end_ns", "error"?, "interrupted"?, "value"?,
     "output"?} and the result or the text of the traceback. "error" has "code", "user_message" and, for an exception,
     "exception": the dotted names of its class and the base classes. "value" has "type" and "repr" of a result that is not
     JSON, for a submitter that prefers JSON and may be unable to read other results. "output" is what was printed, see Output.
Descriptors 1 and 2 are files of the agent, opened for appending. What is written to descriptor 4 goes to the log of workers.

The environment of a function is the same as in the stock worker (globus_compute_endpoint.engines.helper.execute_task):
GC_TASK_UUID, GC_TASK_SANDBOX_DIR and the working directory. As in the stock worker, the function is deserialized again for
each call, so that no call sees what an earlier call left in the function's globals. Only *compiled* source text is kept
between calls. Unlike in the stock worker, SystemExit and KeyboardInterrupt of user code are failures of the call and do not
end the worker, coroutines are awaited, and process state that a function changes is restored after each call (see
ProcessState).
"""

import __future__

import _signal  # signal without its enums, which take as long as all other bookkeeping of a call
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
MAX_TEXT_CHARS = 64 * 1024
LENGTHS = struct.Struct(">II")
SOURCE_IDENTIFIERS = ("st\n", "sd\n")
COMPILED_LIMIT = 256
WORKER_PID = os.getpid()
ADVICE = os.environ.pop("FUNCX_PACKAGE_ADVICE", "")
MAX_EXCEPTION_NAMES = 20
MAX_REPR_CHARS = 4_000
# The repr of a larger result may take long, unless its package is known to abbreviate it.
MAX_REPR_DATA_CHARS = 1_000_000
SUMMARIZING = {"numpy", "pandas", "polars", "scipy", "torch", "xarray"}
# A separate encoder and decoder for frames, because a function may replace json.dumps.
ENCODER = json.JSONEncoder()
DECODER = json.JSONDecoder()


def die_with_agent():
    """Makes a kill -9 of the agent end this worker even during a call (Linux only; elsewhere, the closed pipe ends it)."""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        pass  # the guard of the process groups still ends this worker


def flush_of_c():
    """Returns a function that flushes the output buffers of C code, which are separate from the buffers of Python."""
    try:
        import ctypes

        flush = ctypes.CDLL(None).fflush
        flush.argtypes = (ctypes.c_void_p,)
        return lambda: flush(None)
    except (ImportError, OSError, AttributeError):
        return lambda: None


def write_frame(header, body=""):
    head = ENCODER.encode(header).encode()
    # A lone surrogate has no UTF-8 form. Replace it, so that the answer is not lost.
    text = body.encode("utf-8", "replace")
    rest = memoryview(LENGTHS.pack(len(head), len(text)) + head + text)
    while rest:
        rest = rest[os.write(FD, rest) :]


class Functions:
    """Deserializes functions. Keeps compiled source, but never a function."""

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
            source = source.removeprefix("\ufeff")  # the byte order mark of a file
            # The exec() of the SDK applies its own `from __future__ import annotations` to the source. Do the same.
            code = compile(source, filename, "exec", __future__.annotations.compiler_flag, True)
            self.compiled[buffer] = code
        # Lets tracebacks show the source line. Without a modification time, linecache never drops the entry.
        filename = code.co_filename
        source = source.removeprefix("\ufeff")
        if filename not in linecache.cache or linecache.cache[filename][0] != len(source):
            linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        namespace = {}
        exec(code, namespace)
        # Python normalizes identifiers, but the name may have been sent in another form.
        return namespace[unicodedata.normalize("NFKC", name)]


def split_three(text):
    """Splits the task buffer without repeatedly copying its tail."""
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
        raise ValueError(f"a task has 3 buffers (function, arguments, keyword arguments), this task has {len(buffers)}")
    return buffers


class ProcessState:
    """State of this process that a function may change, and that is restored after each call.

    Restored are the signal handlers, the alarm timer, the signal mask, os.environ, sys.path, the umask, standard output and
    error, and replaced attributes of the modules below. Everything else (threads, imported modules, the attributes of other
    modules, open files, resource limits) stays as the function left it.
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
        """Returns the descriptor, its name, a copy (with a number that functions are unlikely to close), and its file."""
        copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)
        found = os.fstat(fd)
        return fd, name, copy, (found.st_dev, found.st_ino)

    @staticmethod
    def open_stream(fd, name):
        # closefd: a function that closes sys.stdout must not free descriptor 1 for the next file that is opened.
        setattr(sys, name, open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False))

    def remember_environ(self):
        self.variables = dict(self.environ._data)  # encoded, so that comparing and copying decode no variable

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
    """The output of a call and its child processes. Descriptors 1 and 2 append to two files, which are emptied between calls."""

    def __init__(self, state):
        self.state = state
        self.flush_c = flush_of_c()

    def clear(self):
        """Called before a call: moves output that threads and children of earlier calls printed in between to the log."""
        for fd in (1, 2):
            size = os.lseek(fd, 0, os.SEEK_END)
            if size > 0:
                os.write(LOG_FD, os.pread(fd, min(size, MAX_LOGGED_BYTES), 0))
                os.ftruncate(fd, 0)

    def take(self):
        """Called after a call: returns {"stdout", "stderr"}, or None without output. Cuts out the middle of long output."""
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
        """Gives the next call new files, because a child that still runs keeps printing to the current ones."""
        import tempfile

        for index, (fd, name, copy, _file) in enumerate(self.state.streams):
            try:
                with tempfile.TemporaryFile(buffering=0) as file:
                    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
                    os.dup2(file.fileno(), fd)
            except OSError:
                os.ftruncate(fd, 0)  # another file cannot be created
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
        """Runs lazy imports now, so that the first task need not wait for them."""
        code = self.serializer.serialize(types.FunctionType((lambda: None).__code__, {}))
        self.serializer.deserialize(code)
        self.serializer.deserialize(self.serializer.serialize(((), {})))
        os.makedirs(self.run_dir, exist_ok=True)
        self.state = ProcessState()
        self.state.restore()
        self.output = Output(self.state)

    def move_to(self, folder):
        """Called when the worker gets its owner: from now on, calls use the folders of that owner."""
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
        """Runs the function. During the call, it and its child processes handle Ctrl-C in the default way."""
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
                pass  # not JSON even with numpy scalars converted; the next serializer is used
        data = self.serializer.serialize_from_list(value, serializers)
        if not data.startswith("11\n"):
            self.state.restore()  # __reduce__ and __getstate__ are user code as well
        return data

    def look_of(self, value, data):
        cls = type(value)
        look = {"type": cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"}
        try:
            if len(data) <= MAX_REPR_DATA_CHARS or cls.__module__.partition(".")[0] in SUMMARIZING:
                text = repr(value)
                look["repr"] = text if len(text) <= MAX_REPR_CHARS else text[:MAX_REPR_CHARS] + "..."
        except Exception:
            pass  # __repr__ is user code and may fail; then only the type is reported
        finally:
            self.state.restore()
        return look

    def execute(self, header, buffer):
        """Returns the header and body of the answer. Never raises, whatever the function does."""
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
        except BaseException as thrown:  # includes SystemExit, which is a failure of the call
            if os.getpid() != WORKER_PID:
                os._exit(1)  # a forked child of user code that returns here must not send an answer
            self.state.restore()
            error = {
                "code": "RemoteExecutionError",
                "user_message": "An error occurred during the execution of this task",
                "exception": class_names(type(thrown)),
            }
            data = cut(describe(thrown))
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
                return  # the agent has ended, or ends this worker
            header_length, body_length = LENGTHS.unpack(lengths)
            frame = pipe.read(header_length + body_length)
            if len(frame) < header_length + body_length:
                return
            answer, data = self.execute(DECODER.decode(frame[:header_length].decode()), frame[header_length:].decode())
            write_frame(answer, data)


def number_of(value):
    """Converts a numpy scalar to a Python number, for json.dumps."""
    if isinstance(value, sys.modules["numpy"].generic):
        return value.item()
    raise TypeError


def class_names(cls):
    """Returns the dotted names of a class and its bases without `object`, which a retry policy can name."""
    names = [f"{base.__module__}.{base.__qualname__}"[:200] for base in cls.__mro__ if base is not object]
    return names[:MAX_EXCEPTION_NAMES]


def package_hint(thrown):
    if not isinstance(thrown, ModuleNotFoundError) or not thrown.name:
        return ""
    advice = ADVICE or f"{sys.executable} -m pip install PACKAGE"
    return f"The Python of this endpoint ({sys.executable} on {platform.node()}) has no {thrown.name}. To add it there: {advice}\n"


def cut(text):
    half = MAX_TEXT_CHARS // 2 - 4
    return text if len(text) <= MAX_TEXT_CHARS else f"{text[:half]}\n[...]\n{text[-half:]}"


def describe(thrown):
    """Returns the traceback as text, without the stack frames of this file."""
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
    # The agent handles Ctrl-C. Functions run with the default handling, see Worker.call.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker()
    worker.warm_up()
    # dill resolves names of the submitter's __main__ in the __main__ of this process: replace this file by an empty module.
    sys.modules["__main__"] = types.ModuleType("__main__")
    gc.collect()
    gc.freeze()
    try:
        worker.serve()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the agent has ended
    finally:
        if os.getpid() == WORKER_PID:
            sys.stdout.flush()
            sys.stderr.flush()
    os._exit(0)  # threads of user code must not keep the worker alive


if __name__ == "__main__":
    main()
