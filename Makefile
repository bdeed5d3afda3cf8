# Two commands: `make test` and `make book`. Each makes its own environment first; nothing is needed
# before them but Python 3.11 or newer, make and git. Extra words for pip go in PIP_ARGS.
PYTHON ?= python3
PIP_ARGS ?=
VENV ?= .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: test test-all book lint results bench clean help

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $(READY)

test: $(READY) ## the tests, offline, a few minutes on two cores
	$(PY) -m pytest

test-all: $(READY) ## every test, the slow ones too
	$(PY) -m pytest --slow

lint: $(READY) ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

clean: ## the built book and its cache (not the environment)
	rm -rf _build book/_build dist
