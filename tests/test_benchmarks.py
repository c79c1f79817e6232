"""The scripts of the paper's tables run, keep what they measured and say it; on a few generated users."""

import importlib
import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
QUICK = ["--data", "generated", "--sample", "0.1", "--seeds", "0"]
SHORT = ["--set", "n_epochs=1", "max_iter=1", "n_structure_epochs=1", "n_negatives=64", "embedding_dim=8"]


@pytest.fixture
def bench(monkeypatch):
    """Import a module of benchmarks/ as its scripts do."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def run(script, *arguments):
    """Run a script as the command line would."""
    before = sys.argv
    sys.argv = [script, *map(str, arguments)]
    try:
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    finally:
        sys.argv = before


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_go_on_after_a_cut_and_an_error(bench, tmp_path, capsys):
    Records = bench("_records").Records
    path, calls = tmp_path / "new" / "r.jsonl", []

    def measured(value):
        return lambda: calls.append(value) or {"value": value}

    records = Records(path)
    for seed in (0, 0, 1):
        records.measure({"seed": seed, "parameters": {"alpha": 0.1}}, measured(seed))
    assert calls == [0, 1]
    records.end()  # nothing failed
    path.write_text(path.read_text()[:-20])  # the last line is cut short
    Records(path).measure({"seed": 2}, measured(2))
    records.measure({"seed": 1, "parameters": {"alpha": 0.1}}, measured(3))
    assert [row["value"] for row in records.rows()] == [0, 2, 3]
    records.measure({"seed": 4}, lambda: 1 / 0)
    records.measure({"seed": 5}, measured(5))
    assert records.rows()[-1]["value"] == 5
    assert "ZeroDivisionError" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="1 failed"):
        records.end()


def test_changes_are_for_all_data_or_for_one(bench):
    changes_of = bench("_records").changes_of
    pairs = ["n_epochs=3", "ml-1m:n_paths=2", "encoder=gru", "alpha=1e-3"]
    everywhere = {"n_epochs": 3, "encoder": "gru", "alpha": 1e-3}
    assert changes_of(pairs, "ml-1m") == {**everywhere, "n_paths": 2}
    assert changes_of(pairs, "generated") == everywhere
    for bad in ("n_epochs", "ml-2m:n_epochs=3"):
        with pytest.raises(SystemExit, match="--set takes NAME=VALUE"):
            changes_of([bad], "ml-1m")


def check_reports(start, names):
    for name in names:
        assert start.with_name(f"{start.name}-{name}.png").stat().st_size > 5000
        table = start.with_name(f"{start.name}-{name}.md").read_text()
        facts = json.loads(start.with_name(f"{start.name}-{name}.json").read_text())
        assert "n_epochs=1" in table and "seeds 0" in table
        assert facts["base"]["width"] == 25 and facts["records"]


def test_structure_measures_once_and_reports(tmp_path, capsys, bench):
    names, start = ["alpha", "init"], tmp_path / "s"
    arguments = [*QUICK, *SHORT, "--alphas", 1, "--rounds", 1, "--output", start]
    run("structure.py", *names, *arguments)
    rows = lines(tmp_path / "s.jsonl")
    # The base is part of both, as the start from k-means too, and is fitted once; beside it there are alpha 1
    # and the random start.
    assert len(rows) == 3
    for row in rows:
        assert row["max_path_size"] >= row["mean_path_size"] >= 1
        widest = row["beams"][-1]
        assert 0 < widest["candidates"] <= row["n_scanned"]
        assert 0 <= widest["found@10"] <= 100
    check_reports(start, names)
    run("structure.py", "alpha", *arguments)
    assert lines(tmp_path / "s.jsonl") == rows
    capsys.readouterr()
    run("structure.py", "depth", *QUICK, "--set", "n_epochs=7", "--report", "--output", start)
    assert "not measured for these seeds and this base" in capsys.readouterr().out


@pytest.mark.slow
def test_structure_of_other_depths_curves_and_its_time(tmp_path, bench):
    names, start = ["depth", "curves", "time"], tmp_path / "s"
    lists = ["--widths", 10, 25, "--paths", 2, 3, "--alphas", 0]
    run("structure.py", *names, *QUICK, *SHORT, *lists, "--output", start)
    rows = lines(tmp_path / "s.jsonl")
    # Four depths, the base, width 10, 2 paths and alpha 0; and the base again for its time.
    assert [row["of"]["what"] for row in rows] == ["fit"] * 8 + ["time"]
    check_reports(start, names)
    assert "published, not reproduced |  | 0.266 |" in (tmp_path / "s-time.md").read_text()


def test_accuracy_in_both_modes(bench, tmp_path):
    methods = ["--methods", "popularity", "neighbours", "two-tower", "dr"]
    arguments = [*QUICK, *SHORT, *methods, "--output", tmp_path / "a"]
    run("accuracy.py", *arguments)
    rows = lines(tmp_path / "a.jsonl")
    assert [(row["of"]["method"], row["of"]["seen"]) for row in rows] == [
        (method, seen) for method in methods[1:] for seen in ("removed", "kept")
    ]
    assert [row["of"]["parameters"]["repeats"] for row in rows[4:]] == [False, True] * 2
    run("accuracy.py", *arguments, "--report")
    assert lines(tmp_path / "a.jsonl") == rows
    table = (tmp_path / "a.md").read_text()
    for method in ("item neighbours", "two-tower softmax", "DR, brute force", "DR, at most 50 candidates"):
        for seen in ("removed", "kept"):
            assert f"| {seen} | {method} | 10 |" in table
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_published_figures_stand_apart(bench, tmp_path):
    report = bench("_accuracy_report")
    for name, figure in (("ml-20m", "12.32 ± 0.36"), ("amazon-books", "13.74 ± 0.14")):
        found = [line for line in report.published(name) if figure in line]
        assert len(found) == 1
        assert "published, not reproduced" in found[0][1]
        assert len(found[0]) == len(report.HEADS)
    assert report.published("ml-1m") == []


def test_peers_leave_out_seen_items_or_keep_them(bench, tmp_path):
    processes, protocol = bench("_processes"), bench("_protocol")
    split = protocol.hold_out("generated", 0, sample=0.1)
    processes.write_events(split, tmp_path / "events.npz")
    starts = bench("peers.settings").STARTS
    scripts = {"ease": "ease.py"}
    if importlib.util.find_spec("implicit"):
        scripts |= {"als": "implicit_als.py", "bpr": "implicit_bpr.py"}
    for method, script in scripts.items():
        job = {"events": str(tmp_path / "events.npz"), "settings": starts[method], "k": 20, "seed": 0}
        job |= {"threads": 1, "max_seconds": 60, "exclude_seen": [True, False]}
        answers, reason = processes.run_peer(script, job)
        assert reason is None
        seen = []
        for facts, lists in answers:
            codes = split.history.item_vocabulary.decode(lists["recommended"])
            pairs = zip(split.history, codes, strict=True)
            seen.append((facts["exclude_seen"], sum(np.isin(row, own).sum() for own, row in pairs)))
        assert seen[0] == (True, 0)
        assert seen[1][0] is False and seen[1][1] > 0


def test_a_stored_fit_is_read_and_not_made_again(bench, tmp_path):
    retrieval, path = bench("retrieval"), tmp_path / "fit.pkl"
    recipe = {"items": 60, "users": 120, "held_out": 20, "events": 6, "seed": 0}
    recipe["parameters"] = {"n_epochs": 1, "max_iter": 1, "n_structure_epochs": 1}
    made, read = (retrieval.fitted(recipe, path) for _ in range(2))
    assert read["seconds"] == made["seconds"]
    lists = [stored["estimator"].recommend(stored["held_out"][0]) for stored in (made, read)]
    np.testing.assert_array_equal(*lists)


def test_a_peer_in_epochs_is_judged_at_its_best_and_not_run_again(bench, tmp_path, monkeypatch):
    accuracy, calls = bench("accuracy"), []

    def trained(script, job, python):
        calls.append(job)
        right, wrong = (np.repeat(items[:, None], 100, axis=1) for items in (truth, (truth + 1) % 600))
        epochs = enumerate((wrong, right, wrong), start=1)
        facts = {"fit_seconds": 1.0, "exclude_seen": True}
        return [({**facts, "epochs": epoch}, {"recommended": lists}) for epoch, lists in epochs], None

    monkeypatch.setattr(accuracy, "run_peer", trained)
    arguments = SimpleNamespace(
        sample=0.2,
        seen=["removed"],
        settings=None,
        max_seconds=7.0,
        threads=1,
        rectools_python="python",
        set=[],
    )
    records = bench("_records").Records(tmp_path / "a.jsonl")
    measurement = accuracy.Measurement("generated", 0, arguments, records)
    truth = measurement.split.truth.items[measurement.split.truth.indptr[:-1]]
    for _ in range(2):
        measurement.measure("sasrec")
    (row,) = records.rows()
    assert len(calls) == 1 and calls[0]["max_seconds"] == 7.0 and "max_seconds" not in calls[0]["settings"]
    assert row["epochs"] == 2 and row["of"]["parameters"]["max_seconds"] == 7.0
