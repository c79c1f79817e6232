"""The front door opens fast and onto every name; rooms import down the list only."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import drlearn

PACKAGE = Path(drlearn.__file__).parent
ROOMS = [  # a module may import those above it
    "_version",
    "_runtime",
    "_history",
    "_hashing",
    "_exponential",
    "_html",
    "_vocabulary",
    "_checks",
    "_readers",
    "_rows",
    "_counts",
    "_storage",
    "interactions",
    "datasets._files",
    "datasets._amazon",
    "datasets._movielens",
    "datasets._generate",
    "datasets",
    "_filter",
    "preprocessing",
    "structure",
    "structure.paths",
    "structure.windows",
    "structure.initialization",
    "structure.negatives",
    "search",
    "search.selection",
    "search.prefetch",
    "search.products",
    "search.beam",
    "search.encoder",
    "search.catalogue",
    "search.rerank",
    "search.answers",
    "structure.path_likelihood",
    "structure.recurrence",
    "structure.row_adam",
    "structure.sampled_softmax",
    "structure.model",
    "structure.own_encoder",
    "structure.encoding",
    "structure.training",
    "structure.checkpoint",
    "structure.streaming",
    "structure.scores",
    "structure.assignment",
    "structure.distillation",
    "_hits",
    "metrics",
    "model_selection",
    "recommenders",
    "recommenders._inputs",
    "recommenders._lists",
    "recommenders._state",
    "recommenders._persistence",
    "recommenders._reading",
    "recommenders._streaming",
    "recommenders._base",
    "recommenders._similar",
    "recommenders.popularity",
    "recommenders.item_knn",
    "recommenders._softmax_base",
    "recommenders.softmax",
    "recommenders._diagnostics",
    "recommenders._path_weight",
    "recommenders._retrieval",
    "recommenders._structure_fit",
    "recommenders._structure_streaming",
    "recommenders.deep_retrieval",
    "inspection._axes",
    "inspection._history",
    "inspection._beam",
    "inspection._sizes",
    "inspection._map",
    "inspection",
]


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path):
    """Names inside the package that a file imports, anywhere in it, late imports too, but not for types."""
    found, tree = set(), ast.parse(path.read_text())
    tree.body = [
        n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    names = {
        name.removeprefix("drlearn").removeprefix(".") for name in found if name.split(".")[0] == "drlearn"
    }
    return {name for name in names if name in MODULES and name}


def test_the_list_of_rooms_is_complete():
    assert sorted(ROOMS) == sorted(set(MODULES) - {""})
    assert imported(MODULES[""]) == {"_version"}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_up_the_list_only(room):
    assert imported(MODULES[room]) <= set(ROOMS[: ROOMS.index(room)])


def test_the_imports_are_found():
    assert {"structure.paths", "search.rerank"} <= imported(MODULES["recommenders._retrieval"])
    assert "recommenders._diagnostics" in imported(MODULES["recommenders.deep_retrieval"])  # a late import


def test_torch_and_the_recommenders_stay_behind_their_borders():
    torch_side = {
        "structure.recurrence",
        "structure.row_adam",
        "structure.sampled_softmax",
        "structure.model",
        "structure.own_encoder",
        "structure.training",
        "structure.encoding",
        "structure.checkpoint",
        "structure.streaming",
    }
    for room, path in MODULES.items():
        roots = {
            name.split(".")[0]
            for node in ast.parse(path.read_text()).body
            for name in (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else
                [node.module] if isinstance(node, ast.ImportFrom) else []
            )
        }  # fmt: skip
        assert "torch" not in roots or room in torch_side
        assert not roots & {"pandas", "polars", "pyarrow", "matplotlib"}


def test_all_names_are_there():
    assert len(set(drlearn.__all__)) == len(drlearn.__all__) >= 7
    for name in drlearn.__all__:
        assert getattr(drlearn, name) is not None
    assert set(drlearn.__all__) <= set(dir(drlearn))
    rooms = "inspection", "interactions", "metrics", "model_selection", "preprocessing"
    for room in ("datasets", "recommenders", *rooms):
        module = getattr(drlearn, room)
        assert module is importlib.import_module(f"drlearn.{room}")
        assert all(hasattr(module, name) for name in getattr(module, "__all__", []))
    with pytest.raises(AttributeError, match="module 'drlearn' has no attribute 'nothing'"):
        drlearn.nothing  # noqa: B018


def test_star_import():
    names = {}
    exec("from drlearn import *", names)
    assert set(drlearn.__all__) <= set(names)


def test_import_is_cheap():
    code = "import drlearn, json, sys; print(json.dumps(sorted(m.split('.')[0] for m in sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numba", "scipy", "sklearn", "numpy", "narwhals", "pandas", "polars", "pyarrow", "tqdm"}
    assert not heavy & set(json.loads(run.stdout))


def test_containers_and_metrics_need_no_torch_and_no_compiler():
    code = "import drlearn.metrics, drlearn.preprocessing, drlearn.datasets, json, sys; "
    code += "drlearn.Interactions; print(json.dumps([m for m in ('torch', 'numba') if m in sys.modules]))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == []


def test_a_process_that_serves_does_not_import_the_compiler_of_torch():
    """It takes seconds."""
    model = max((Path(__file__).parent / "formats").glob("*/DeepRetrievalRecommender"))
    code = f"import drlearn, sys; est = drlearn.DeepRetrievalRecommender.load({str(model)!r}); "
    code += "est.recommend(est.user_ids_[:1], k=1); raise SystemExit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_thing_has_words_and_types_are_declared():
    assert (PACKAGE / "py.typed").exists()
    for name in set(drlearn.__all__) - {"__version__"}:
        thing = getattr(drlearn, name)
        assert "Parameters" in thing.__doc__ or name == "PopularityRecommender"
        assert ">>>" in thing.__doc__
        for method, value in vars(thing).items():
            assert method.startswith("_") or not callable(value) or value.__doc__
