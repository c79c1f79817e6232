"""How interactions and fitted recommenders look in a notebook: HTML and SVG in the page's own colours."""

from __future__ import annotations

import html

import numpy as np

_ROWS, _ITEMS_A_ROW, _ID_LENGTH = 5, 6, 40
_SINGLE_SIZES = 32  # sizes up to here get a bar each, larger ones are taken together by powers of two
_EPOCH_SECONDS = 10**8, 10**10  # integers between are likely to be seconds since 1970
# currentColor and opacities: readable on light and on dark pages alike.
_STYLE = """<style>
.drlearn-card {font-size: 0.9em; line-height: 1.5; margin: 0.4em 0}
.drlearn-card table {border-collapse: collapse; margin: 0.4em 0; border: none}
.drlearn-card tr {background: none !important; border: none}
.drlearn-card td, .drlearn-card th {text-align: left !important; vertical-align: top; border: none;
 border-top: 1px solid rgba(128, 128, 128, 0.35); padding: 0.15em 1.2em 0.15em 0; max-width: 46em}
.drlearn-card th {font-weight: normal; opacity: 0.7; white-space: nowrap}
.drlearn-card svg {display: block; fill: currentColor; margin: 0.2em 0}
</style>"""


class LearnedHTML:
    """Adds what was learned to scikit-learn's diagram of an estimator, once it is fitted."""

    def _repr_html_inner(self):
        return super()._repr_html_inner() + self._learned_html()

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += self._learned_html()
        return bundle

    def _learned_html(self):
        if not self.__sklearn_is_fitted__():
            return ""
        now = self._now()
        return _card("What was learned", _table(_learned(now)))


def interactions_html(X):
    """Return the HTML of `Interactions`: figures, a histogram of events a user, the first rows."""
    facts = [
        ("users", _share(len(X), np.count_nonzero(X.lengths))),
        ("items", _share(X.n_items, np.count_nonzero(X.item_counts()))),
        ("events", f"{X.n_events:,}" + ("" if X.weights is None else ", weighted")),
    ]
    if X.times is not None and X.n_events:
        facts.append(("times", _span(X.times.min(), X.times.max())))
    if len(X):
        low, first, half, third, high = (f"{q:,.0f}" for q in np.quantile(X.lengths, [0, 0.25, 0.5, 0.75, 1]))
        text = f"least {low}, quartiles {first}, {half} and {third}, most {high}"
        facts.append(("events a user", _Markup(_escaped(text) + _bars(X.lengths, "events", "users"))))
    rows = [("user", "events", "items, the first to the left")]
    for i in range(min(_ROWS, len(X))):
        rows.append((_short(X.user_ids[i]), f"{X.lengths[i]:,}", _start_of_row(X, i)))
    rest = f"and {len(X) - _ROWS:,} more rows" if len(X) > _ROWS else ""
    return _card("Interactions", _table(facts) + _table(rows, head=True) + rest)


def _learned(est):
    """Yield the names and values of what a fitted recommender has learned, as far as its kind has it."""
    yield "users", f"{est._fit_X.n_users:,}, with {est._fit_X.n_events:,} events"
    n_known = np.count_nonzero(est.item_counts_)
    yield "items", _share(est.n_items_, n_known)
    if len(est.removed_items_):
        yield "removed items", f"{len(est.removed_items_):,}"
    if hasattr(est, "path_sizes_"):
        sizes, space = est.path_sizes_, est.path_space_
        all_paths = f"{space.width}<sup>{space.depth}</sup> = {space.size:,}"
        yield "paths in use", _Markup(f"{len(sizes):,} of {all_paths}")
        if len(sizes):
            text = f"mean {sizes.mean():.1f}, largest {sizes.max():,}"
            yield "items on a path", _Markup(_escaped(text) + _bars(sizes, "items", "paths"))
        points = est.beam_curve_[:: -(-len(est.beam_curve_) // 7)]
        beams, found = ([f"{value:,.0f}" for value in column] for column in points.T)
        yield "beams", _Markup(_table([("size", *beams), ("items scored a user", *found)]))
        yield "a scan scores", f"{np.count_nonzero(est._recommendable):,}"
    if history := getattr(est, "history_", None):
        losses = {name: _last(history, f"{name}_loss") for name in ("softmax", "structure")}
        text = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items() if loss is not None)
        yield "last losses", f"{text} nats an event"
        yield "seconds of training", f"{sum(map(_seconds, history)):,.1f} in {len(history)} rows of history_"


def _last(history, name):
    return next((row[name] for row in reversed(history) if row.get(name) is not None), None)


def _seconds(row):
    return sum(row.get(name, 0) for name in ("seconds", "seconds_e", "seconds_m"))


def _share(n, n_with_events):
    return f"{n:,}" if n == n_with_events else f"{n:,}, {n_with_events:,} of them with events"


def _span(first, last):
    """Return both ends; numbers that look like seconds since 1970 as dates too."""
    if isinstance(first, np.datetime64):
        return " to ".join(np.datetime_as_string([first, last], unit="s"))
    text = f"{first:,} to {last:,}"
    if not (_EPOCH_SECONDS[0] < first and last < _EPOCH_SECONDS[1]):
        return text
    dates = np.array([first, last]).astype("datetime64[s]").astype("datetime64[D]")
    return f"{text} (as seconds since 1970: {dates[0]} to {dates[1]})"


def _start_of_row(X, i):
    start, stop = X.indptr[i], X.indptr[i + 1]
    shown = X.item_ids[X.items[start : min(stop, start + _ITEMS_A_ROW)]]
    return ", ".join(map(_short, shown)) + (", …" if stop - start > _ITEMS_A_ROW else "")


def _short(value):
    text = str(value)
    return text if len(text) <= _ID_LENGTH else text[: _ID_LENGTH - 1] + "…"


# ------------------------------------------------------------------ markup


class _Markup(str):
    """Text that is HTML already."""


def _escaped(text):
    return text if isinstance(text, _Markup) else html.escape(str(text))


def _card(title, body):
    return f'{_STYLE}<div class="drlearn-card"><b>{_escaped(title)}</b>{body}</div>'


def _table(rows, head=False):
    """Rows of cells; their first cells are names, or their first row is, with `head`."""
    lines = []
    for i, row in enumerate(rows):
        tags = ["th" if (i == 0 if head else j == 0) else "td" for j in range(len(row))]
        lines.append("".join(f"<{t}>{_escaped(cell)}</{t}>" for t, cell in zip(tags, row, strict=True)))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _bars(sizes, what, of):
    """Return an SVG histogram of positive sizes; a bar's tooltip says what it holds."""
    sizes = sizes[sizes > 0]
    if len(sizes) == 0:
        return ""
    largest = int(sizes.max())
    singly = largest <= _SINGLE_SIZES
    edges = np.arange(1, largest + 2) if singly else 2 ** np.arange(largest.bit_length() + 1)
    edges = edges[np.searchsorted(edges, sizes.min(), side="right") - 1 :]
    counts = np.histogram(sizes, edges)[0]
    width, height = max(10, min(24, 320 // len(counts))), 36
    parts = [f'<svg width="{width * len(counts)}" height="{height}" role="img">']
    for i, (low, high, n) in enumerate(zip(edges[:-1], edges[1:] - 1, counts, strict=True)):
        tall = n / counts.max() * height
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        place = f'x="{i * width}" y="{height - tall:.1f}" width="{width - 1}" height="{tall:.1f}"'
        title = f"<title>{span} {what}: {n:,} {of}</title>"
        parts.append(f'<rect {place} opacity="0.6">{title}</rect>')
    return "".join(parts) + "</svg>"
