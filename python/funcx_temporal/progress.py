"""Progress of futures of any executor."""

import sys
import time
from concurrent import futures as concurrent_futures

WIDTH = 30
# How often the bar is redrawn in a terminal or notebook, and how often a log gets a line; in seconds.
REDRAW_S = 0.2
LOG_LINE_S = 10.0


def progress(futures, label="", stream=None):
    """Yields each future when it ends, and shows a progress bar.

    `futures`: any iterable of `concurrent.futures.Future`, such as the futures of the Globus Compute SDK and funcX 1.0.
    `label`: shown before the bar. `stream`: where the bar is written. Default: standard error.
    """
    waiting = set(futures)
    bar = _Bar(len(waiting), label, sys.stderr if stream is None else stream)
    bar.show()
    try:
        while waiting:
            ended, waiting = concurrent_futures.wait(waiting, bar.period, concurrent_futures.FIRST_COMPLETED)
            for future in ended:
                bar.count(future)
                yield future
            bar.show()
    finally:
        bar.close()


def wait(futures, label="", stream=None):
    """Shows a bar until all futures have ended. Returns the futures in their original order."""
    futures = list(futures)
    for _ in progress(futures, label, stream):
        pass
    return futures


class _Bar:
    def __init__(self, total, label, stream):
        self.total, self.label, self.stream = total, label, stream
        self.done = self.failed = 0
        self.started = time.monotonic()
        self.shown_at = None
        self.width = 0
        # A notebook is not a terminal, but it supports carriage returns.
        self.is_live = stream.isatty() or type(stream).__module__.startswith("ipykernel")
        self.period = REDRAW_S if self.is_live else LOG_LINE_S

    def count(self, future):
        self.done += 1
        if future.cancelled() or future.exception() is not None:
            self.failed += 1

    def text(self):
        share = self.done / self.total if self.total else 1.0
        filled = int(WIDTH * share)
        seconds = time.monotonic() - self.started
        parts = [f"{self.done}/{self.total}", f"{int(100 * share)} %"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.done and seconds > 0:
            parts.append(f"{self.done / seconds:.1f}/s")
        label = f"{self.label} " if self.label else ""
        return f"{label}[{'#' * filled}{'.' * (WIDTH - filled)}] {', '.join(parts)}"

    def show(self):
        now = time.monotonic()
        if self.shown_at is not None and now - self.shown_at < self.period:
            return
        self.shown_at = now
        self._write(self.text())

    def close(self):
        """Writes the final state and ends its line."""
        self._write(self.text())
        if self.is_live:
            self.stream.write("\n")
            self.stream.flush()

    def _write(self, text):
        if self.is_live:
            self.stream.write("\r" + text.ljust(self.width))
            self.width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()
