"""Runs Python functions for the agent, one at a time, until its pipe closes.

Frames on file descriptor 3, both ways: two big-endian 32-bit lengths, a JSON header, a UTF-8 body.
In:  {"task_id", "result_serializers"?, "max_result_chars"?} and the task buffer.
Out: first {"ready": true, "details": {...}}, then per task {"start_ns", "end_ns", "error"?} and the result or the
     traceback text.

What a function sees follows the stock worker (globus_compute_endpoint.engines.helper.execute_task): GC_TASK_UUID,
GC_TASK_SANDBOX_DIR, the working directory, and a function that is deserialized anew for each call, so that no call sees
what an earlier one left in the function's globals. Only the *compiled* form of source text is kept between calls.
Unlike there, SystemExit and KeyboardInterrupt of user code are answers too; they do not end the worker.
"""

import __future__

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

FD = 3
LENGTHS = struct.Struct(">II")
SOURCE_IDENTIFIERS = ("st\n", "sd\n")
COMPILED_LIMIT = 256
WORKER_PID = os.getpid()


def die_with_agent():
    """A kill -9 of the agent ends a worker in the middle of a call too (Linux; elsewhere the closed pipe must do)."""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        pass  # the agent's group guard still ends us


def write_frame(header, body=""):
    head = json.dumps(header).encode()
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
            # The SDK's own exec() hands its `from __future__ import annotations` on to the source; so do we.
            code = compile(source, filename, "exec", __future__.annotations.compiler_flag, True)
            self.compiled[buffer] = code
        # Lets tracebacks show the source line. No modification time: linecache never drops the entry.
        filename = code.co_filename
        if filename not in linecache.cache or linecache.cache[filename][0] != len(source):
            linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        namespace = {}
        exec(code, namespace)
        return namespace[name]


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


class Worker:
    def __init__(self):
        import dill
        from globus_compute_sdk.serialize import ComputeSerializer
        from globus_compute_sdk.version import __version__ as sdk_version

        self.serializer = ComputeSerializer()
        self.functions = Functions(self.serializer)
        self.run_dir = os.environ["FUNCX_RUN_DIR"]
        self.sandbox = os.environ.get("FUNCX_SANDBOX") == "1"
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

    def execute(self, header, buffer):
        """Returns the answer's header and body. Never raises, whatever the function does."""
        start_ns = time.time_ns()
        error = None
        try:
            self.enter_directory(header["task_id"])
            code, args, kwargs = split_three(buffer)
            function = self.functions.load(code)
            args = self.serializer.deserialize(args)
            kwargs = self.serializer.deserialize(kwargs)
            value = function(*args, **kwargs)
            data = self.serializer.serialize_from_list(value, header.get("result_serializers") or ())
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
            error = {
                "code": "RemoteExecutionError",
                "user_message": "An error occurred during the execution of this task",
            }
            data = describe(thrown)
        if os.getpid() != WORKER_PID:
            os._exit(0)
        answer = {"start_ns": start_ns, "end_ns": time.time_ns()}
        if error is not None:
            answer["error"] = error
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
            answer, data = self.execute(json.loads(frame[:header_length]), frame[header_length:].decode())
            write_frame(answer, data)


def describe(thrown):
    """The traceback as text, from the user's first frame on; the last line names the exception."""
    try:
        tb = thrown.__traceback__
        own = tb.tb_next if tb is not None and tb.tb_next is not None else tb
        return "".join(traceback.format_exception(type(thrown), thrown, own))
    except BaseException:  # a __str__ or __repr__ of user code that raises
        return f"{type(thrown).__name__}: <the exception has no printable text>\n"


def main():
    die_with_agent()
    os.set_inheritable(FD, False)
    # Ctrl-C goes to the agent, which decides; user code may still raise KeyboardInterrupt itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")
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
