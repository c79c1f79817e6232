"""Every public name says what goes in, what comes out and what it refuses, with an example that runs."""

import ast
import importlib
import inspect
import textwrap
from pathlib import Path

import pytest
from numpydoc.validate import validate

import drlearn

WANTED = {  # numpydoc's codes
    "GL03", "GL07", "GL08",  # layout: blank lines, the order of sections, no docstring at all
    "SS03", "SS04",  # the summary: one sentence, without leading spaces
    "PR01", "PR02", "PR10",  # parameters: all of them and none else
    "RT01", "YD01",  # what comes out
    "EX01",  # an example; doctest runs it
}  # fmt: skip
ROOMS = [  # rooms with public names; `drlearn.inspection` and its like join by having an `__all__`
    room for room in drlearn._ROOMS if hasattr(importlib.import_module(f"drlearn.{room}"), "__all__")
]


def methods_of(cls):
    """Public methods that a class defines or inherits inside the package; properties need no example."""
    for name, value in inspect.getmembers(cls, callable):
        home = getattr(value, "__module__", "") or ""
        if not name.startswith("_") and home.startswith("drlearn"):
            yield name


def public_names():
    """Full names of all public functions, classes and methods."""
    names = {f"drlearn.{name}" for name in drlearn.__all__}
    for room in ROOMS:
        names |= {f"drlearn.{room}.{name}" for name in importlib.import_module(f"drlearn.{room}").__all__}
    for full in sorted(names):
        thing = found(full)
        if inspect.isclass(thing):
            yield full
            yield from (f"{full}.{method}" for method in methods_of(thing))
        elif callable(thing) and inspect.getdoc(thing) != inspect.getdoc(type(thing)):
            yield full


def found(full):
    """The thing of that name."""
    parts, thing = full.split(".")[1:], drlearn
    for part in parts:
        thing = getattr(thing, part)
    return thing


PUBLIC = list(public_names())


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    errors = [f"{code} {text}" for code, text in validate(name)["errors"] if code in WANTED]
    assert errors == []


@pytest.mark.parametrize("name", PUBLIC)
def test_what_raises_says_so(name):
    thing = inspect.unwrap(found(name))
    body = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    if inspect.isclass(thing):  # what its __init__ raises
        body.body = [n for n in body.body[0].body if getattr(n, "name", "") == "__init__"]
    raised = [n for n in ast.walk(body) if isinstance(n, ast.Raise) and n.exc is not None]
    assert not raised or "Raises\n" in inspect.getdoc(thing)


def test_the_walk_meets_what_users_call():
    wanted = {
        "drlearn.DeepRetrievalRecommender.recommend", "drlearn.DeepRetrievalRecommender.load",
        "drlearn.Interactions.split", "drlearn.preprocessing.KCore.transform", "drlearn.metrics.ndcg_at_k",
        "drlearn.datasets.make_interactions", "drlearn.model_selection.time_splits",
    }  # fmt: skip
    assert wanted <= set(PUBLIC)


def test_the_reference_lists_every_public_name():
    page = (Path(drlearn.__file__).parents[1] / "docs" / "api.rst").read_text()
    listed = {line.strip().split(".")[-1] for line in page.splitlines() if line.startswith("   ")}
    classes = {name for name in PUBLIC if inspect.isclass(found(name))}
    top = {name for name in PUBLIC if name.rpartition(".")[0] not in classes}
    assert {name.split(".")[-1] for name in top} <= listed
