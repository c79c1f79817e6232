"""Training history: rows of data first; printing and progress bars only read them."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings

from tqdm import tqdm

_LONG = 1.0  # seconds of a stage that is worth a line in a log
_BETWEEN = ("drlearn", "sklearn", "joblib")
_COMPILING = "[drlearn] compiling kernels that the cache does not hold yet: a minute or more"


class TrainingHistory(list):
    """A list of dicts, one a line of training; `record` adds one and prints it where asked to.

    Parameters
    ----------
    verbose : bool
        Whether each row is printed, one line, to standard error.

    Examples
    --------
    >>> history = TrainingHistory(verbose=False)
    >>> history.record(round=1, softmax_loss=6.25)
    >>> history
    [{'round': 1, 'softmax_loss': 6.25}]
    """

    def __init__(self, rows=(), verbose=False):
        super().__init__(rows)
        self.verbose = verbose

    def record(self, **row):
        """Add a row."""
        self.append(row)
        if self.verbose:
            text = "  ".join(f"{name} {_short(value)}" for name, value in row.items() if value is not None)
            tqdm.write(f"[drlearn] {text}", file=sys.stderr)

    def __reduce__(self):
        return type(self), (list(self), self.verbose)


def _short(value):
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "/".join(_short(v) for v in value)
    return str(value)


class _Silent:
    """Stands where a progress bar would, and starts none of tqdm's threads."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, n):
        """Show nothing."""


class _Line(_Silent):
    """Stands where a progress bar would in a log: a line for what took a second or more."""

    def __init__(self, title):
        self._title, self._started = title, time.perf_counter()

    def __exit__(self, *error):
        seconds = time.perf_counter() - self._started
        if seconds >= _LONG:
            tqdm.write(f"[drlearn] {self._title}: {seconds:.1f} s", file=sys.stderr)


def progress_bar(total, title, verbose):
    """Return a tqdm bar over `total` events on a terminal, elsewhere a line; nothing without `verbose`."""
    if not verbose:
        return _Silent()
    if not getattr(sys.stderr, "isatty", bool)():
        return _Line(title)
    return tqdm(total=total, desc=title, unit="ev", unit_scale=True, leave=False)


def compiling_told(verbose):
    """Return a context in which it is said, once, that kernels are compiled and not found in the cache."""
    if not verbose:
        return contextlib.nullcontext()
    from numba.core import event

    class Told(event.Listener):
        said = False

        def on_start(self, event):
            ours = event.data["dispatcher"].py_func.__module__.startswith("drlearn")
            if ours and not self.said:
                self.said = True
                tqdm.write(_COMPILING, file=sys.stderr)

        def on_end(self, event):
            pass

    return event.install_listener("numba:compile", Told())


def warn_interrupted(where):
    """Say that a fit was stopped by the user and what remains."""
    warn_caller(
        f"fit was interrupted {where}: the estimator is fitted as far as it came. With checkpoint_dir, the "
        "same fit called again goes on."
    )


def warn_caller(message):
    """Warn at the caller's own line, however many calls of ours and of scikit-learn's lie between."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
