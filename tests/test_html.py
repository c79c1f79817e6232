"""Notebooks show interactions and fitted recommenders: true figures, escaped ids, scikit-learn's diagram."""

from html.parser import HTMLParser

import numpy as np
import pytest
from quick import for_each, recommenders
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from drlearn import DeepRetrievalRecommender, Interactions, Vocabulary
from drlearn.datasets import make_interactions
from drlearn.preprocessing import LastEvents

SOFTMAX = {"n_epochs": 2, "embedding_dim": 8, "batch_size": 512, "random_state": 0}
RECOMMENDERS = recommenders(SOFTMAX, {"width": 8, "max_iter": 1, "n_structure_epochs": 1, "n_hidden": 16})


class Page(HTMLParser):
    """Reads HTML: cells of tables row by row, bars of histograms, all tags; tags must close in order."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tips, self.tags, self.open = [], [], set(), []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["title"]:
            self.tips.append(data)
        elif self.open[-1:] in (["td"], ["th"], ["sup"]):
            self.rows[-1][-1] += data

    @property
    def facts(self):
        return {row[0]: row[1] for row in self.rows if len(row) == 2}


def learned(est):
    """The page of what was learned, behind scikit-learn's diagram."""
    return Page(est._repr_html_().partition('<div class="drlearn-card">')[2].removesuffix("</div>"))


# ------------------------------------------------------------------ interactions


def test_interactions_show_figures_and_first_rows():
    rows = [["a"] * 40, ["b"], [], ["c", "a"], ["b"] * 3, ["a"], ["b"]]
    X = Interactions.from_sequences(rows, item_vocabulary=Vocabulary(["a", "b", "c", "d"]))
    text = X._repr_html_()
    page = Page(text)
    assert page.facts["users"] == "7, 6 of them with events"
    assert page.facts["items"] == "4, 3 of them with events"
    assert page.facts["events"] == "48"
    assert "least 0" in page.facts["events a user"] and "most 40" in page.facts["events a user"]
    assert [row for row in page.rows if len(row) == 3][1:] == [
        ["0", "40", "a, a, a, a, a, a, …"], ["1", "1", "b"], ["2", "0", ""], ["3", "2", "c, a"],
        ["4", "3", "b, b, b"],
    ]  # fmt: skip
    assert "and 2 more rows" in text
    assert page.tips[0] == "1 events: 3 users"
    assert page.tips[-1] == "32 to 63 events: 1 users"
    assert sum(int(tip.split(": ")[1].split()[0]) for tip in page.tips) == 6


def test_ids_are_escaped_and_cut():
    X = Interactions.from_sequences([["<script>x</script>", "&amp;", "i" * 500]], user_ids=['"><b>'])
    page = Page(X._repr_html_())
    assert not page.tags & {"script", "b"} - {"b"} and "<script>" not in X._repr_html_()
    assert page.rows[-1][0] == '"><b>'
    assert page.rows[-1][2] == f"<script>x</script>, &amp;, {'i' * 39}…"


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ([3, 7], "3 to 7"),
        ([1e9, 1.1e9], "as seconds since 1970: 2001-09-09 to 2004-11-09"),
        (
            np.array(["2024-01-02", "2024-02-03"], "datetime64[ns]"),
            "2024-01-02T00:00:00 to 2024-02-03T00:00:00",
        ),
    ],
)
def test_times_are_readable(times, wanted):
    X = Interactions([0, 2], [0, 1], item_vocabulary=Vocabulary(["a", "b"]), times=times)
    assert wanted in Page(X._repr_html_()).facts["times"]


def test_nothing_is_shown_as_nothing():
    X = Interactions.from_sequences([["a"], ["b"]])
    for empty in (X[:0], X.keep(np.zeros(2, bool))):
        assert Page(empty._repr_html_()).facts["events"] == "0"


# ------------------------------------------------------------------ estimators


@pytest.fixture(scope="module")
def X():
    return make_interactions(120, 60, n_events=10, random_state=0)


@for_each(RECOMMENDERS)
def test_unfitted_estimators_show_the_diagram_alone(est):
    text = est._repr_html_()
    assert type(est).__name__ in text and "drlearn-card" not in text


@for_each(RECOMMENDERS)
def test_fitted_estimators_add_what_was_learned(est, X):
    est = clone(est).fit(X)
    facts = learned(est).facts
    assert facts["users"] == f"120, with {X.n_events:,} events"
    assert facts["items"].startswith("60")
    bundle = est._repr_mimebundle_()
    assert bundle["text/plain"] == repr(est)
    for text in (est._repr_html_(), bundle["text/html"]):
        assert text.index("sk-top-container") < text.index("drlearn-card")
    with config_context(display="text"):
        assert not hasattr(est, "_repr_html_") and "text/html" not in est._repr_mimebundle_()


@for_each(RECOMMENDERS)
def test_pipelines_keep_their_diagram(est, X):
    pipeline = make_pipeline(LastEvents(n=5), clone(est)).fit(X)
    text = pipeline._repr_html_()
    assert "LastEvents" in text and type(est).__name__ in text


def test_a_structure_tells_its_paths_beams_and_losses(X):
    est = DeepRetrievalRecommender(**RECOMMENDERS[-1].get_params()).fit(X)
    page = learned(est)
    assert page.facts["paths in use"] == f"{len(est.path_sizes_):,} of 82 = 64"  # 8 squared
    assert page.facts["items on a path"].endswith(f"largest {est.path_sizes_.max()}")
    assert sum(int(tip.split(": ")[1].split()[0]) for tip in page.tips) == len(est.path_sizes_)
    beams = next(row for row in page.rows if row[0] == "size")
    found = next(row for row in page.rows if row[0] == "items scored a user")
    curve = {f"{beam:,.0f}": f"{count:,.0f}" for beam, count in est.beam_curve_}
    assert page.facts["a scan scores"] == str(np.count_nonzero(est.item_counts_))
    assert len(beams) > 2 and all(curve[b] == n for b, n in zip(beams[1:], found[1:], strict=True))
    loss = est.history_[-1]["structure_loss"]
    assert f"structure {loss:.3f}" in page.facts["last losses"]
    seconds = sum(row["seconds_e"] + row["seconds_m"] for row in est.history_)
    assert page.facts["seconds of training"].startswith(f"{seconds:,.1f} in 2 rows")
    est.remove_items(X.item_ids[:3])
    assert learned(est).facts["removed items"] == "3"
    est.partial_fit(X[:20])
    assert "in 3 rows" in learned(est).facts["seconds of training"]
