# The only list of commands. `make help` prints it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format contract bench bench-tables up down

# The first Python 3.11 or newer on this machine; override with `make PYTHON=... setup`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
PIP := $(BIN)/python -m pip
# uv installs several times as fast as pip and does not read pip's variables.
UV := UV_INDEX_STRATEGY=unsafe-best-match $(if $(PIP_INDEX_URL),UV_DEFAULT_INDEX="$(PIP_INDEX_URL)") \
	$(if $(PIP_EXTRA_INDEX_URL),UV_INDEX="$(PIP_EXTRA_INDEX_URL)") $(BIN)/uv
PACKAGES := -c constraints.txt -e '.[embedded,lab,dev,demo,hf,open-clip]'
GENERATED := api/contract

help: ## Print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with the package and everything it needs

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "encoder-audit needs Python 3.11 or newer; none was found." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --disable-pip-version-check uv 2>/dev/null \
		&& $(UV) pip install --quiet --python $(BIN)/python $(PACKAGES) \
		|| { echo "uv cannot install here; pip does, in a few minutes."; \
			$(PIP) install --quiet --disable-pip-version-check $(PACKAGES); }
	@touch $@

demo: $(STAMP) ## Audit a really backdoored encoder through the real service, and purify it
	$(BIN)/python -m samples.demo

test: $(STAMP) ## Unit, contract, integration and end-to-end tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --maxprocesses 8 --dist loadfile tests/unit tests/contract
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 tests/integration tests/e2e

check: $(STAMP) ## Format, lint, types, import rules, drift of generated files, migrations against tables
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m core.contract --check $(GENERATED)
	$(BIN)/python -m api.openapi --check $(GENERATED)
	$(BIN)/python -m migrations.check

format: $(STAMP) ## Rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

contract: $(STAMP) ## Write api/contract/ from the catalogue, the report and the API
	$(BIN)/python -m core.contract $(GENERATED)
	$(BIN)/python -m api.openapi $(GENERATED)

bench: $(STAMP) ## Speed of audits and of training against the bare passes of the same encoder
	$(BIN)/python -m pytest -q -s tests/benchmarks

# Which zoo and images, and how much of it: `make bench-tables SEEDS=1 ONLY="detection table-2" BUDGET=60`.
ZOO := zoo-output
DATA := ../shared/data
SEEDS := 3
JOBS := 2
ONLY :=
ENCODERS :=
BUDGET :=
BUDGETS :=

bench-tables: $(STAMP) ## Measure what is missing of the tables in docs/results.md and write them: hours, resumable
	$(BIN)/python -m tests.benchmarks.tables $(addprefix --zoo ,$(ZOO)) --data $(DATA) --output bench-output \
		--seeds $(SEEDS) --jobs $(JOBS) $(if $(ONLY),--only $(ONLY)) $(if $(ENCODERS),--encoders $(ENCODERS)) \
		$(if $(BUDGET),--budget-minutes $(BUDGET)) $(if $(BUDGETS),--budgets $(BUDGETS)) \
		--write docs/results.md

up: ## Start the service in containers (PostgreSQL, Valkey, S3, API, worker)
	docker compose up --build --detach --wait

down: ## Stop the containers; the data stays in their volumes
	docker compose down
