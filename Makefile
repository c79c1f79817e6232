# Everything a contributor runs. Each target sets up $(VENV) first where that is needed.

PYTHON ?= python3
VENV ?= .venv
# On Linux the default index brings gigabytes of CUDA with torch. For a GPU: make setup TORCH_INDEX=https://download.pytorch.org/whl/cu126
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INTERPRETABLE := $(wildcard $(addprefix tests/test_,$(addsuffix .py,\
	paths windows exponential selection products beam answers scores assignment initialization catalogue \
	rerank)))
SPHINX := PYTHONPATH=docs $(BIN)/python -m sphinx -j 2 -W --keep-going -n -d output/doctrees
COMPILED := $(INTERPRETABLE) $(wildcard $(addprefix tests/test_,$(addsuffix .py,recurrence row_adam encoder training model properties)))

.PHONY: help setup demo test test-interpreted test-bounds smoke lint doctest docs linkcheck bench clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED)  ## Make the virtual environment, with the versions of constraints.txt

$(INSTALLED): setup.cfg constraints.txt
	@echo "Setting up $(VENV); this takes some minutes the first time."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --retries 1 --no-deps -c constraints.txt --extra-index-url $(TORCH_INDEX) torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	@touch $@

demo: $(INSTALLED)  ## Fit on MovieLens, compare with the yardsticks, draw output/movielens.png
	$(BIN)/python examples/plot_movielens.py

test: $(INSTALLED)  ## Run the tests, in a process a core, four at most
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-interpreted: $(INSTALLED)  ## Run the kernels' tests without compiling the kernels
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest $(INTERPRETABLE)

test-bounds: $(INSTALLED)  ## Run the kernels' tests with every index checked (compiles all anew)
	NUMBA_BOUNDSCHECK=1 DRLEARN_NUMBA_CACHE=0 $(BIN)/python -m pytest $(COMPILED)

smoke: $(INSTALLED)  ## Check that costs grow as they should (ratios, half a minute)
	$(BIN)/python benchmarks/smoke.py

lint: $(INSTALLED)  ## Check the style
	$(BIN)/ruff check .

doctest: $(INSTALLED)  ## Run the examples in docstrings, README and the pages of the documentation
	$(BIN)/python -m pytest --doctest-modules --doctest-glob="*.md" drlearn README.md $(wildcard docs/*.md)

docs: $(INSTALLED)  ## Build the site, output/docs/index.html; a warning is an error
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	$(SPHINX) -b html docs output/docs

linkcheck: $(INSTALLED)  ## Build the site and look up its links, those to other sites too
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	$(SPHINX) -b linkcheck docs output/linkcheck

bench: $(INSTALLED)  ## Run the benchmarks (a day; what was measured is kept; benchmarks/large.py only by hand)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/structure.py depth alpha curves init time
	@for name in retrieval scaling training; do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:  ## Remove what was built, the virtual environment too
	rm -rf $(VENV) build dist *.egg-info output examples/output docs/auto_examples docs/generated .pytest_cache .hypothesis .ruff_cache .coverage htmlcov
	find drlearn tests examples benchmarks -name __pycache__ -type d -exec rm -rf {} +
