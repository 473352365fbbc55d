# `make run` needs Python >=3.11,<3.14, make and a package registry; nothing else.
# Works with GNU make 3.81 (macOS) and later.

PYTHON ?= python3
UV ?= uv
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
REPLAY_DB := .caudal/replay/bank_marketing/mlflow.db

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

##@ On a laptop

.PHONY: run
run: $(VENV)/run.stamp ## Replay 31 months of the bank_marketing data set (ARGS="..." for its options)
	@$(BIN)/caudal replay bank_marketing $(ARGS)

.PHONY: ui
ui: $(VENV)/run.stamp ## Show the replay's models in MLflow's own interface (http://127.0.0.1:5000)
	@test -f $(REPLAY_DB) || { echo "There is no $(REPLAY_DB) yet: call 'make run' first." >&2; exit 1; }
	@echo "MLflow: http://127.0.0.1:5000 (Ctrl-C ends it)"
	@MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
	  $(BIN)/mlflow ui --backend-store-uri sqlite:///$(REPLAY_DB) --host 127.0.0.1 --port 5000 --workers 1

##@ Development

.PHONY: picture
picture: $(VENV)/run.stamp ## Take the README's picture anew from the replay's report (needs chromium)
	@$(BIN)/python docs/picture.py

.PHONY: dev
dev: $(VENV)/dev.stamp ## Install what development needs

# A file's tests share what it makes, so they stay in one process; ARGS=-n0 runs all in this one.
PROCESSES := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: lint ## Lint, check types, run every test (ARGS="..." for pytest's options)
	@echo "==> pytest"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PROCESSES) $(ARGS)

.PHONY: lint
lint: $(VENV)/dev.stamp ## Lint, check the format and the types
	@echo "==> ruff check"
	@$(BIN)/ruff check
	@echo "==> ruff format --check"
	@$(BIN)/ruff format --check
	@echo "==> mypy"
	@$(BIN)/mypy

.PHONY: test-workflow
test-workflow: $(VENV)/dev.stamp .venv-workflows_emulator/stamp ## Run the compiled workflow in an emulator, beside the local executor
	@$(BIN)/python -m pytest tests/workflow $(ARGS)

.PHONY: lint-ci
lint-ci: $(VENV)/dev.stamp .venv-ci_tools/stamp ## Check the GitHub workflows and the Dockerfiles
	@$(BIN)/python -m pytest tests/ci $(ARGS)

.PHONY: tools
tools: .venv-workflows_emulator/stamp .venv-ci_tools/stamp .venv-rehearsal/stamp .venv-checkov/stamp ## Install tools that need environments of their own

.PHONY: test-emulators
test-emulators: $(VENV)/dev.stamp emulators ## Run the adapters' suites and the ETL against emulators of BigQuery and Cloud Storage
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/emulators $(ARGS)

.PHONY: emulators
emulators: .venv-emulators/stamp ## Install the emulators, which need Python 3.13

# Prints the Python that the emulators would get, or nothing.
.PHONY: emulators-python
emulators-python:
	@echo $(PYTHON_EMULATORS)

EXAMPLES ?= 1000
SEED ?= 0

.PHONY: test-at-length
test-at-length: $(VENV)/dev.stamp ## Run the property tests with many examples (EXAMPLES=1000), drawn by SEED
	@CAUDAL_EXAMPLES=$(EXAMPLES) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m hypothesis \
	  --hypothesis-profile=at-length --hypothesis-seed=$(SEED) $(ARGS)

.PHONY: format
format: $(VENV)/dev.stamp ## Mend what ruff can mend, and format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

ROWS ?= 1750000
SHAPES ?= even
REPEATS ?= 5

.PHONY: bench-etl
bench-etl: $(VENV)/dev.stamp ## Beam beside DuckDB and Polars (ROWS="1750000 17500000", SHAPES="even hot few many")
	@$(BIN)/python -m benchmarks.etl $(foreach rows,$(ROWS),--rows $(rows)) \
	  $(foreach shape,$(SHAPES),--shape $(shape)) --repeats $(REPEATS) $(ARGS)

.PHONY: bench-train
bench-train: $(VENV)/dev.stamp ## Memory, time and quality of training (about 10 minutes; ARGS="--part bank")
	@$(BIN)/python -m benchmarks.train $(ARGS)

.PHONY: bench-serve
bench-serve: $(VENV)/dev.stamp ## The server under load, beside an endpoint with no model (about 5 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.serve $(ARGS)

.PHONY: clean
clean: ## Remove the environment, caches and the local state
	rm -rf $(VENV) .venv-* .caudal .rehearsal cdktf.out .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find libs services pipeline infra tests -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

##@ Google Cloud

ENVIRONMENTS := dev staging prod
# What is proven must not wait for a build: these digests are made up, and say so.
CAUDAL_RELEASE ?= tests/infra/fixtures/release.json

.PHONY: synth
synth: $(VENV)/dev.stamp ## Write the stacks of every environment into cdktf.out/
	@for environment in $(ENVIRONMENTS); do echo "==> synth $$environment"; \
	  CAUDAL_ENV=$$environment CAUDAL_RELEASE=$(CAUDAL_RELEASE) CDKTF_OUTDIR= $(BIN)/python -m infra.main || exit 1; done

.PHONY: rehearse
rehearse: synth .venv-rehearsal/stamp ## Deploy every environment offline: init, plan, apply, plan again, destroy
	@echo "==> rehearse: faults that must be found"
	@CAUDAL_REHEARSE=1 $(BIN)/python -m pytest -q tests/infra/test_rehearsal.py
	@echo "==> rehearse"
	@$(BIN)/python -m infra.rehearsal.rehearse --protected staging --protected prod \
	  $(addprefix cdktf.out/,$(ENVIRONMENTS))

.PHONY: synth-cdktn
synth-cdktn: synth .venv-cdktn/stamp ## Show that the stacks are the same under CDKTF's maintained fork
	@CAUDAL_ENV=dev CAUDAL_RELEASE=$(CAUDAL_RELEASE) PYTHONPATH=.:libs:services \
	  .venv-cdktn/bin/python -m infra.fork cdktf.out/dev

.PHONY: checkov
checkov: synth .venv-checkov/stamp ## Scan the stacks of every environment
	@echo "==> checkov"
	@$(BIN)/python -m infra.checks.scan $(addprefix cdktf.out/,$(ENVIRONMENTS))

##@ Dependencies

# dev.txt comes first: it is the constraint of all that shares its versions.
SHARED_LOCKS := run ingest_function etl_beam trainer batch_scoring serving monitor mlflow_server
OWN_LOCKS := cdktn checkov workflows_emulator rehearsal ci_tools
COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url \
  --custom-compile-command "make lock" $(UPGRADE)

.PHONY: lock
lock: ## Resolve requirements/*.in into hashed files (UPGRADE=--upgrade for new versions); needs uv
	@command -v $(UV) >/dev/null || { \
	  echo "'make lock' needs uv (python3 -m pip install uv), or UV=/path/to/uv." >&2; exit 1; }
	@echo "==> dev"
	@$(COMPILE) --python-version 3.11 requirements/dev.in -o requirements/dev.txt
	@for name in $(SHARED_LOCKS); do echo "==> $$name"; \
	  $(COMPILE) --python-version 3.11 -c requirements/dev.txt requirements/$$name.in -o requirements/$$name.txt \
	  || exit 1; done
	@for name in $(OWN_LOCKS); do echo "==> $$name"; \
	  $(COMPILE) --python-version 3.11 requirements/$$name.in -o requirements/$$name.txt || exit 1; done
	@echo "==> emulators"
	@$(COMPILE) --python-version 3.13 --override requirements/emulators.override.in \
	  requirements/emulators.in -o requirements/emulators.txt

##@ Help

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# Stamps: nothing is installed, and no network touched, until a requirements file changes.

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no '$(PYTHON)' here: install Python 3.11, 3.12 or 3.13, or call make PYTHON=/path/to/python." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "Caudal needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1): call make PYTHON=python3.12, for example." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module (on Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@echo "==> Making $(VENV) with $$($(PYTHON) --version)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)

$(VENV)/packages.stamp: requirements/run.txt | $(BIN)/python
	@echo "==> Installing requirements/run.txt into $(VENV) (about a minute, 1.3 GB)"
	@$(PIP) install --no-deps --require-hashes -r requirements/run.txt
	@touch $@

# The project is installed editable: only its packaging is a reason to repeat it, and that needs no network.
$(VENV)/run.stamp: pyproject.toml $(VENV)/packages.stamp
	@$(PIP) install --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt | $(VENV)/run.stamp
	@echo "==> Installing requirements/dev.txt into $(VENV) (about a minute, 1.2 GB more)"
	@$(PIP) install --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

# A tool that pins tightly has an environment of its own: .venv-<name>, from requirements/<name>.txt.
.venv-%/stamp: requirements/%.txt
	@echo "==> Installing requirements/$*.txt into .venv-$*"
	@rm -rf .venv-$*
	@$(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r requirements/$*.txt
	@touch $@

# The emulators need a newer Python than the project. One that is not on the PATH may be uv's or pyenv's: the first
# that works is taken, or the one that PYTHON_EMULATORS names.
PYTHON_EMULATORS ?= $(shell \
  for python in "$(PYTHON)" python3.13 "$$($(UV) python find 3.13 2>/dev/null)" "$$(pyenv prefix 3.13 2>/dev/null)/bin/python"; do \
    "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] < (3, 13))' 2>/dev/null && echo "$$python" && break; \
  done)
.venv-emulators/stamp: requirements/emulators.txt
	@"$(PYTHON_EMULATORS)" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] < (3, 13))' 2>/dev/null || { \
	  echo "The emulators need Python 3.13 or later, and there is none here: install it, or call make test-emulators PYTHON_EMULATORS=/path/to/python3.13." >&2; exit 1; }
	@echo "==> Installing requirements/emulators.txt into .venv-emulators"
	@rm -rf .venv-emulators
	@"$(PYTHON_EMULATORS)" -m venv .venv-emulators
	@.venv-emulators/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r requirements/emulators.txt
	@touch $@
