"""Displays draw the figures that a fitted estimator has, and say what they cannot draw."""

import copy
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from drlearn import DeepRetrievalRecommender, ItemKNNRecommender, SoftmaxRecommender
from drlearn.datasets import make_interactions
from drlearn.inspection import BeamCurveDisplay, PathMapDisplay, PathSizeDisplay, TrainingHistoryDisplay
from drlearn.interactions import Interactions
from drlearn.metrics import recall_at_k
from drlearn.preprocessing import LastEvents

matplotlib.use("Agg")
SOFTMAX = {"n_epochs": 2, "embedding_dim": 8, "batch_size": 512, "random_state": 0}
QUICK = SOFTMAX | {"width": 8, "depth": 2, "max_iter": 2, "n_structure_epochs": 1, "n_hidden": 16}


@pytest.fixture(scope="module")
def X():
    return make_interactions(200, 80, n_events=12, random_state=0)


@pytest.fixture(scope="module")
def est(X):
    return DeepRetrievalRecommender(**QUICK, n_paths=1, validation_fraction=0.2).fit(X[:150])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture
def plt():
    import matplotlib.pyplot as plt

    return plt


DRAWN = {
    PathSizeDisplay: (),
    TrainingHistoryDisplay: (),
    BeamCurveDisplay: ("X",),
    PathMapDisplay: ("labels",),
}
each = pytest.mark.parametrize("display", DRAWN, ids=lambda display: display.__name__)


def arguments(display, X):
    values = {"X": X[150:], "labels": dict.fromkeys(X.item_ids.tolist(), "a")}
    return [values[name] for name in DRAWN[display]]


# ------------------------------------------------------------------ what holds for all


@each
def test_draws_in_given_axes_and_in_new_ones(display, est, X, plt):
    figure, ax = plt.subplots()
    drawn = display.from_estimator(est, *arguments(display, X), ax=ax)
    assert isinstance(drawn, display) and drawn.figure_ is figure
    again = drawn.plot()
    assert again is drawn and drawn.figure_ is not figure
    drawn.figure_.draw_without_rendering()  # ticks and formatters too


@each
def test_wrong_estimators_and_axes_are_named(display, est, X):
    given = arguments(display, X)
    with pytest.raises(NotFittedError):
        display.from_estimator(DeepRetrievalRecommender(), *given)
    with pytest.raises(TypeError, match=r"DeepRetrievalRecommender, got ItemKNNRecommender, which has no"):
        display.from_estimator(ItemKNNRecommender().fit(X), *given)
    with pytest.raises(TypeError, match=r"got Pipeline\. Of a pipeline, pass the last step"):
        display.from_estimator(make_pipeline(LastEvents(), est), *given)
    with pytest.raises(TypeError, match="ax must be matplotlib Axes"):
        display.from_estimator(est, *given, ax="here")


@each
def test_without_matplotlib_it_is_said_how_to_get_it(display, est, X, monkeypatch):
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf'{display.__name__}.* pip install "drlearn\[plot\]"'):
        display.from_estimator(est, *arguments(display, X))


# ------------------------------------------------------------------ path sizes


def test_histogram_counts_every_path(est):
    display = PathSizeDisplay.from_estimator(est, color="black")
    heights = [bar.get_height() for bar in display.bars_]
    np.testing.assert_array_equal(heights, np.bincount(est.path_sizes_)[1:])
    assert display.mean_line_.get_xdata()[0] == pytest.approx(est.path_sizes_.mean())
    share = est.path_sizes_.max() / np.count_nonzero(est.item_counts_)
    assert f"largest {est.path_sizes_.max()}, {share:.1%} of all items" in display.mean_line_.get_label()
    assert display.bars_[0].get_facecolor() == (0, 0, 0, 1) and display.line_ is None


def test_rank_plot_falls_from_the_largest(est):
    display = PathSizeDisplay.from_estimator(est, kind="rank")
    np.testing.assert_array_equal(display.line_.get_ydata(), np.sort(est.path_sizes_)[::-1])
    assert display.line_.get_xdata()[0] == 1 and display.bars_ is None


def test_a_collapsed_structure_stays_in_the_picture():
    sizes = np.append(np.full(300, 2), 5000)
    display = PathSizeDisplay(sizes, n_items=5200).plot()
    heights = [bar.get_height() for bar in display.bars_]
    assert sum(heights) == 301 and heights[-1] == 1 and display.ax_.get_xscale() == "log"
    assert "96.2% of all items" in display.mean_line_.get_label()


def test_path_sizes_refuse_nothing_and_unknown_kinds():
    with pytest.raises(ValueError, match="no path has an item"):
        PathSizeDisplay([]).plot()
    with pytest.raises(ValueError, match="kind must be one of"):
        PathSizeDisplay([1]).plot(kind="pie")


# ------------------------------------------------------------------ history


def test_panels_show_the_rows_of_history(est):
    display = TrainingHistoryDisplay.from_estimator(est)
    wanted = ["loss", "moved", "sizes", "entropies", "distinct", "recall", "seconds"]
    assert list(display.axes_) == wanted
    _, structure = display.artists_["loss"]
    assert structure.get_ydata().tolist() == [row["structure_loss"] for row in est.history_]
    (moved,) = display.artists_["moved"]
    assert [bar.get_height() for bar in moved][1:] == [row["moved"] for row in est.history_[1:]]
    told = [text.get_text() for text in display.axes_["moved"].texts]  # also of a bar too low to be seen
    assert told[:1] == [""] and told[1:] == [f"{100 * row['moved']:.2g} %" for row in est.history_[1:]]
    assert [line.get_ydata()[-1] for line in display.artists_["entropies"]] == est.history_[-1][
        "layer_entropies"
    ]
    _, m_step = display.artists_["seconds"]
    top = m_step[1].get_y() + m_step[1].get_height()  # on top of the other
    assert top == pytest.approx(est.history_[1]["seconds_e"] + est.history_[1]["seconds_m"])


def test_softmax_has_loss_and_time(X):
    est = SoftmaxRecommender(**SOFTMAX).fit(X)
    display = TrainingHistoryDisplay.from_estimator(est)
    assert list(display.axes_) == ["loss", "seconds"]
    assert display.axes_["loss"].get_xlabel() == "epoch"


def test_updates_follow_on_ground_of_their_own(X):
    est = DeepRetrievalRecommender(**QUICK).fit(X[:150]).partial_fit(X[150:]).partial_fit(X[150:160])
    display = TrainingHistoryDisplay.from_estimator(est)
    ax = display.axes_["loss"]
    display.figure_.draw_without_rendering()
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert [label for label in labels if label] == ["0", "1", "2", "+1", "+2"]
    assert len(ax.patches) == 1 and ax.patches[0].get_x() == 2.5
    assert "recall" not in display.axes_
    assert np.isnan([bar.get_height() for bar in display.artists_["moved"][0]][3:]).all()


def test_panels_may_be_chosen_and_placed(est, plt):
    figure, axes = plt.subplots(1, 2)
    display = TrainingHistoryDisplay.from_estimator(est, panels=["sizes", "loss"], ax=axes)
    assert list(display.axes_.values()) == list(axes) and axes[0].get_title() == "Items on a path"
    _, ax = plt.subplots()
    assert TrainingHistoryDisplay(est.history_).plot(ax, panels=["moved"]).axes_ == {"moved": ax}
    figure, ax = plt.subplots()
    within = TrainingHistoryDisplay(est.history_).plot(ax)
    box = ax.get_position()
    assert within.figure_ is figure and not ax.axison and len(within.axes_) == 7
    assert all(
        box.x0 - 1e-9 <= a.get_position().x0 and a.get_position().x1 <= box.x1 + 1e-9
        for a in within.axes_.values()
    )


def test_panels_and_places_that_are_not_there(est, plt):
    with pytest.raises(ValueError, match=r"ax must hold 7 Axes, .* got 2"):
        TrainingHistoryDisplay.from_estimator(est, ax=plt.subplots(1, 2)[1])
    with pytest.raises(ValueError, match="panels must be one of"):
        TrainingHistoryDisplay.from_estimator(est, panels=["losses"])
    with pytest.raises(ValueError, match="ax must come from"):
        TrainingHistoryDisplay.from_estimator(est, ax=plt.figure().add_axes((0, 0, 1, 1)))
    with pytest.raises(ValueError, match="history has no rows"):
        TrainingHistoryDisplay([]).plot()


# ------------------------------------------------------------------ beams


def test_beam_curve_measures_what_the_estimator_does(est, X):
    test = X[150:]
    display = BeamCurveDisplay.from_estimator(est, test, k=5, beam_sizes=[4, est.path_space_.size])
    history, truth = test.split(0.5)
    np.testing.assert_array_equal(display.beam_sizes, [4, 64])
    assert display.line_.get_xdata()[0] == est.count_candidates(history, beam_size=4).mean()
    by_hand = recall_at_k(truth, est.recommend(history, k=5, beam_size=4), 5)
    assert display.line_.get_ydata()[0] == pytest.approx(by_hand)
    # The beam of all paths is the scan.
    assert display.candidates[1] == display.scan["candidates"] == np.count_nonzero(est.item_counts_)
    assert display.recall[1] == pytest.approx(display.scan["recall"]) and display.found[1] == 1
    assert display.found[0] <= 1
    assert display.scan_line_.get_ydata()[0] == display.scan["recall"]
    nothing = BeamCurveDisplay(
        beam_sizes=[4], candidates=[9], seconds=[1e-3], recall=[0.0], found=[0.0],
        scan={"candidates": 80, "seconds": 1e-3, "recall": 0.0}, k=5,
    ).plot()  # fmt: skip
    assert nothing.ax_.get_ylim() == (0, 1)


def test_beams_by_default_hold_the_estimators_own(est, X):
    display = BeamCurveDisplay.from_estimator(est, X[150:], k=2, y="found", x="time")
    own = list(display.beam_sizes).index(display.beam_size)
    assert (np.diff(display.beam_sizes) > 0).all() and (display.seconds > 0).all()
    assert display.own_point_.get_ydata()[0] == display.found[own]
    assert display.line_.get_xdata()[own] == pytest.approx(1e3 * display.seconds[own])
    assert display.scan_line_.get_ydata()[0] == 1
    other = BeamCurveDisplay.from_estimator(est, X[150:], k=2, beam_sizes=[display.beam_size + 1])
    assert other.own_point_ is None


def test_repeats_are_found_where_they_were_learned():
    X = Interactions.from_sequences([[f"a{u % 5}", f"b{u % 3}"] * 4 for u in range(60)])
    est = DeepRetrievalRecommender(**QUICK, repeats=True, validation_fraction=0.3).fit(X)
    display = BeamCurveDisplay.from_estimator(est, X, k=8, beam_sizes=[est.path_space_.size])
    assert display.recall == display.scan["recall"] == 1
    assert est.history_[-1]["recall"] > 0.5


def test_beam_curve_refuses_what_it_cannot_measure(est, X):
    with pytest.raises(ValueError, match="no user with two known events"):
        BeamCurveDisplay.from_estimator(est, [[X.item_ids[0]]])
    with pytest.raises(ValueError, match="beam_sizes must be at least 1, got 0"):
        BeamCurveDisplay.from_estimator(est, X[150:], beam_sizes=[0])
    for name in ("x", "y"):
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            BeamCurveDisplay.from_estimator(est, X[150:], **{name: "money"})


# ------------------------------------------------------------------ what nodes mean


def nodes_of(est, layer):
    return est.path_space_.decode(est.item_paths_[:, 0])[:, layer]


@pytest.mark.parametrize("layer", [0, 1])
def test_labels_that_are_the_nodes_lie_on_a_diagonal(est, X, layer):
    labels = {item: f"n{node}" for item, node in zip(X.item_ids.tolist(), nodes_of(est, layer), strict=True)}
    display = PathMapDisplay.from_estimator(est, labels, layer=layer)
    lift = display.image_.get_array()
    assert [display.categories[c] for c in lift.argmax(axis=0)] == [f"n{node}" for node in display.nodes]
    np.testing.assert_array_equal(lift.argmax(axis=0), np.arange(len(display.nodes)))
    np.testing.assert_allclose(display.shares.sum(axis=1), 1)
    assert sorted(display.nodes) == sorted(set(nodes_of(est, layer).tolist()))


def test_an_item_counts_once_however_many_paths_and_categories_it_has(X):
    est = DeepRetrievalRecommender(**QUICK, n_paths=3).fit(X)
    labels = {item: ["all", "odd"] if item % 2 else "all" for item in X.item_ids.tolist()}
    display = PathMapDisplay.from_estimator(est, labels, measure="share")
    odd = np.mean(X.item_ids[est.item_counts_ > 0] % 2)
    np.testing.assert_allclose(sorted(display.overall), [odd / 2, 1 - odd / 2])
    assert display.image_.get_array().shape == (2, len(display.nodes))


def test_labels_by_position_and_by_id_agree_and_gaps_are_left_out(est, X):
    by_place = np.where(X.item_ids % 3 == 0, "three", "other")
    by_id = dict(zip(X.item_ids.tolist(), by_place.tolist(), strict=True))
    one, other = (PathMapDisplay.from_estimator(est, labels) for labels in (by_place, by_id))
    np.testing.assert_array_equal(one.shares, other.shares)
    some = PathMapDisplay.from_estimator(est, {i: c for i, c in by_id.items() if c == "three"})
    assert some.categories == ["three"] and some.overall == [1]


def test_categories_are_written_as_they_are(est):
    labels = {item: ("$10_$", "5^^ $")[i % 2] for i, item in enumerate(est.item_ids_)}
    display = PathMapDisplay.from_estimator(est, labels)
    display.figure_.canvas.draw()  # mathematics of that kind could not be drawn
    assert {tick.get_text() for tick in display.ax_.get_yticklabels()} == set(labels.values())


def test_only_the_most_frequent_categories_are_shown(est, X):
    labels = {item: "rare" if item == X.items[0] else f"c{item % 2}" for item in X.item_ids.tolist()}
    display = PathMapDisplay.from_estimator(est, labels, max_categories=2)
    assert sorted(display.categories) == ["c0", "c1"] and display.overall.sum() < 1


def test_describe_tells_the_items_of_nodes_and_paths(est, X):
    ids, nodes = X.item_ids.tolist(), nodes_of(est, 0)
    titles = {item: f"title of {item}" for item in ids}
    display = PathMapDisplay.from_estimator(
        est, {i: f"n{n}" for i, n in zip(ids, nodes, strict=True)}, titles=titles
    )
    node = int(nodes[0])
    on_it = np.flatnonzero(nodes == node)
    first, *lines = display.describe(node, n=3).split("\n  ")
    assert first.startswith(f"node {node}: {len(on_it)} items; n{node} ")
    most = on_it[np.argsort(-est.item_counts_[on_it], kind="stable")[:3]]
    assert lines == [titles[ids[i]] for i in most]
    assert display.describe((node,), n=3).split("\n  ")[1:] == lines
    path = tuple(est.path_space_.decode(est.item_paths_[0, 0]).tolist())
    on_path = np.flatnonzero(est.item_paths_[:, 0] == est.item_paths_[0, 0])
    assert display.describe(path).startswith(f"path {'-'.join(map(str, path))}: {len(on_path)} item")
    decoded = est.path_space_.decode(est.item_paths_[0, 0])
    assert display.describe(list(path)) == display.describe(decoded) == display.describe(path)


def test_describe_names_what_a_node_leans_to():
    shares, overall = np.array([[0.6, 0.4, 0.0], [0.2, 0.2, 0.6]]), np.array([0.4, 0.2, 0.4])
    of_items = {"item_nodes": np.array([[[0]], [[1]]]), "item_names": ["x", "y"], "item_counts": np.ones(2)}
    display = PathMapDisplay(shares, overall, np.array([0, 1]), ["a", "b", "c"], **of_items)
    assert display.describe(0, 1) == "node 0: 1 items; b 2.0 times, a 1.5 times\n  x"
    flat = PathMapDisplay(
        np.array([overall, overall]), overall, np.array([0, 1]), ["a", "b", "c"], **of_items
    )
    assert flat.describe(0, 1) == "node 0: 1 items\n  x"


def test_titles_and_labels_may_be_series_dicts_or_arrays(est, X):
    labels = pd.Series(np.where(X.item_ids % 3 == 0, "three", "other"), index=X.item_ids)[::-1]
    titles = pd.Series([f"title of {item}" for item in X.item_ids], index=X.item_ids)
    forms = [titles[::-1], titles.to_dict(), titles.to_list(), titles.to_numpy()]
    shown = [PathMapDisplay.from_estimator(est, labels, titles=form) for form in forms]
    text = shown[0].describe(int(shown[0].nodes[0]), n=80)
    assert "title of" in text and all(d.describe(int(d.nodes[0]), n=80) == text for d in shown)
    np.testing.assert_array_equal(
        shown[0].shares, PathMapDisplay.from_estimator(est, labels.to_dict()).shares
    )
    table = pd.get_dummies(labels)
    np.testing.assert_array_equal(shown[0].shares, PathMapDisplay.from_estimator(est, table).shares)
    twice = pd.concat([table, table.iloc[:5].astype("boolean").mask(table.iloc[:5])])  # with gaps, too
    np.testing.assert_array_equal(shown[0].shares, PathMapDisplay.from_estimator(est, twice).shares)
    gaps = [pd.NA, None, np.nan, "a", np.array(["a", "b"])] * (len(X.item_ids) // 5)
    assert PathMapDisplay.from_estimator(est, gaps).categories in (["a", "b"], ["b", "a"])
    with pytest.raises(ValueError, match="labels is a table, which must hold ones and zeros"):
        PathMapDisplay.from_estimator(est, labels.to_frame())
    one = PathMapDisplay.from_estimator(est, labels, titles=titles[:1])  # others go by their ids
    assert one.item_names == [titles.iloc[0], *map(str, X.item_ids[1:])]
    none = dict.fromkeys(X.item_ids.tolist()) | {X.item_ids[0]: np.float32("nan"), X.item_ids[1]: pd.NaT}
    assert PathMapDisplay.from_estimator(est, labels, titles=none).item_names == [*map(str, X.item_ids)]
    none |= {X.item_ids[2]: frozenset(["a", "b"])}
    assert sorted(PathMapDisplay.from_estimator(est, none).categories) == ["a", "b"]
    with pytest.raises(ValueError, match=r"titles has 2 entries, but there are 80 items"):
        PathMapDisplay.from_estimator(est, labels, titles=["a", "b"])


@pytest.mark.parametrize("node", [-1, 8, 999, (0, 8), (-1,), "a", 1.5])
def test_nodes_that_are_not_there_cannot_be_described(est, X, node):
    display = PathMapDisplay.from_estimator(est, dict.fromkeys(X.item_ids.tolist(), "a"))
    with pytest.raises(ValueError, match=r"node must be in 0\.\.7, as width=8; got "):
        display.describe(node)
    by_hand = PathMapDisplay(
        np.ones((1, 1)), np.ones(1), np.zeros(1, int), ["a"], item_nodes=np.array([[[1, 2]], [[-1, -1]]]),
        item_names=["b", "c"], item_counts=np.ones(2),
    )  # fmt: skip
    assert by_hand.describe(0).startswith("node 0: 0 items")  # there is one, without items
    with pytest.raises(ValueError, match="width=3"):
        by_hand.describe(node)


def test_path_map_refuses_what_is_not_there(est, X):
    labels = dict.fromkeys(X.item_ids.tolist(), "a")
    with pytest.raises(ValueError, match="layer must be at least 0 and at most 1, got 2"):
        PathMapDisplay.from_estimator(est, labels, layer=2)
    with pytest.raises(ValueError, match="no category for any item"):
        PathMapDisplay.from_estimator(est, {"unknown": "a"})
    with pytest.raises(ValueError, match=r"labels has 2 entries, but there are 80 items"):
        PathMapDisplay.from_estimator(est, ["a", "b"])
    with pytest.raises(ValueError, match="measure must be one of"):
        PathMapDisplay.from_estimator(est, labels, measure="size")
    display = PathMapDisplay.from_estimator(est, labels)
    with pytest.raises(ValueError, match="node must be a node"):
        display.describe((1, 2, 3))
    bare = PathMapDisplay(np.ones((1, 1)), np.ones(1), np.zeros(1, int), ["a"])
    with pytest.raises(ValueError, match="describe needs item_nodes"):
        bare.describe(0)


def test_categories_without_paths_and_layers_of_one_node(est, X):
    labels = {item: "abc"[place % 3] for place, item in enumerate(X.item_ids.tolist())}
    gone = X.item_ids[est.item_counts_ > 0][0]
    left = copy.deepcopy(est).remove_items([gone])
    display = PathMapDisplay.from_estimator(left, labels | {gone: "rare"})
    assert sorted(display.categories) == ["a", "b", "c"] and np.isfinite(display.shares).all()
    with pytest.raises(ValueError, match="labels has no category for any item on a path"):
        PathMapDisplay.from_estimator(left, {gone: "rare"})
    one_node = DeepRetrievalRecommender(**QUICK | {"width": 1, "depth": 1}).fit(X)
    assert sorted(PathMapDisplay.from_estimator(one_node, labels).categories) == ["a", "b", "c"]
