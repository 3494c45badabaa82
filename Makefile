# The project's commands. One virtual environment, plain pip, no root; a second run installs nothing.
# PYTHON=/path/to/python3.13 chooses the interpreter of a new environment.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
DIST := dist
PLUGINS := $(patsubst plugins/%/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
PROJECTS := . $(addprefix plugins/,$(PLUGINS))
# What the demo does without: these bring the SDKs of their clouds, some hundred megabytes of them.
CLOUDS := aws azure gcp
LOCAL := $(filter-out $(CLOUDS),$(PLUGINS))
editable = $(addprefix -e plugins/,$(1))
named = $(addprefix compute-bridge-,$(1))
PINNED := constraints.txt $(addsuffix /pyproject.toml,$(PROJECTS))

.DEFAULT_GOAL := help
.PHONY: help setup check test demo docs bench soak coverage dist clean

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

setup: $(VENV)/.dev ## install everything that the commands below need, into .venv

check: $(VENV)/.dev ## format, lint, types, architecture, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

test: $(VENV)/.dev ## run the tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

coverage: $(VENV)/.dev ## run the tests once more, two thirds slower, and show what they do not reach
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

demo: $(VENV)/.runtime ## one whole lease on this machine: market, two bridges, a requester
	$(BIN)/compute-bridge demo

docs: $(VENV)/.dev ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet -b html docs docs/_build/html

bench: $(VENV)/.dev ## measure; prints numbers, judges nothing
	$(BIN)/python -m pytest tests/bench -o python_files='bench_*.py test_*.py' -o compute_bridge_guarded= -q -s

soak: $(VENV)/.dev ## the long runs
	$(BIN)/python -m pytest -m soak

dist: $(VENV)/.dev ## build every distribution's sdist and wheel into dist/
	rm -rf $(DIST)
	for project in $(PROJECTS); do $(BIN)/python -m build --no-isolation --outdir $(DIST) $$project || exit 1; done

clean: ## remove what the commands made, except .venv
	rm -rf $(DIST) docs/_build .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find core plugins tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# Our own projects are built without isolation, so that hatchling is fetched once; their dependencies are not.
$(VENV)/.runtime: $(PINNED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "compute-bridge needs Python 3.11 or newer, $(PYTHON) is not: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "setting up $(VENV): what compute-bridge needs to run"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt hatchling
	@$(PIP) install --no-build-isolation --no-deps -e . $(call editable,$(LOCAL))
	@$(PIP) install -c constraints.txt compute-bridge $(call named,$(LOCAL))
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "setting up $(VENV): what the tests and checks need"
	@$(PIP) install -c constraints.txt 'pip>=25.3'
	@$(PIP) install --no-build-isolation --no-deps $(call editable,$(CLOUDS))
	@$(PIP) install -c constraints.txt $(call named,$(CLOUDS))
	@$(PIP) install -c constraints.txt --build-constraint constraints.txt --group dev
	@touch $@
