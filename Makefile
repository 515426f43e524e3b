SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
IMAGE := serving/image
WORKERS ?= 3
EXTRAS := --extra dev --extra bigquery --extra spark
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' endcap/__init__.py)

help: ## print these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

demo: $(INSTALLED) ## run the main job on a simulated shop: train, judge, register, serve, and let shoppers decide
	$(BIN)/endcap demo

demo-rollout: $(INSTALLED) ## four new versions meet simulated shoppers: a better, a harmful, a slow and a failing one
	$(BIN)/endcap demo-rollout

month: $(INSTALLED) ## a month of a simulated shop whose runs start by themselves: arrivals, gates, rollouts
	$(BIN)/endcap demo-month

PYTEST := $(BIN)/python -m tests.run
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## run every test of at most three seconds, and three days of make month; WORKERS=4 shares them among four processes
	$(PYTEST) $(PARALLEL) -m "not slow" --ignore tests/timed
	$(PYTEST) tests/timed

test-slow: $(INSTALLED) ## run the tests that take longer: whole runs, killed processes, Spark, statistics
	$(PYTEST) $(PARALLEL) -m slow --ignore tests/timed

parts: $(INSTALLED) ## build a control plane out of Go modules for the tests, and Helm, unless they are there
	@if [ -z "$$KUBECONFIG" ] && command -v go >/dev/null; then $(BIN)/python -m tests.cluster.build; fi

test-cluster: parts ## run the tests against a real API server: KUBECONFIG's, or one built out of Go modules
	$(PYTEST) tests/cluster

test-image: $(INSTALLED) ## build the images with podman and run what is in them; takes minutes and 7 GB below build/
	$(PYTEST) -rs tests/image

chaos: $(INSTALLED) ## attack what a shop would run, for half an hour; ARGS=--short for minutes; writes build/chaos.json
	$(BIN)/python -m tests.chaos $(ARGS)

check: $(INSTALLED) docs ## format, lint, types, import layers, prose, links of the docs, generated files up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/site/prose.py
	$(BIN)/python -m tests.generate --check

docs: $(INSTALLED) ## build the docs into build/docs; a broken link is an error
	$(BIN)/sphinx-build -q -W --keep-going -j auto -c docs/site -d build/doctrees . build/docs

compile: $(INSTALLED) ## write the generated files: compiled pipelines, schemas, manifests, OpenAPI, the chart's table
	$(BIN)/python -m tests.generate

bench: $(INSTALLED) ## measure; writes build/bench/*.json and prints a table
	$(BIN)/python -m tests.bench

bench-gpu: ## measure training on a CUDA device; needs Python, torch and numpy alone; writes build/bench/gpu.json
	$(PYTHON) tests/bench/gpu.py

images: ## build the images with `docker buildx bake`; ARGS=--push pushes them, REPOSITORY=… names them
	@grep -q '@sha256:' $(IMAGE)/images.json || echo "The base image is named by its tag alone; make pin resolves its digest."
	mkdir -p build
	VERSION=$(VERSION) REVISION=$$(git rev-parse HEAD) docker buildx bake -f $(IMAGE)/images.json \
	  -f $(IMAGE)/docker-bake.hcl --metadata-file build/images.json $(ARGS)

pin: ## resolve the digests of base images at their registries
	$(PYTHON) $(IMAGE)/pin.py

audit: $(INSTALLED) ## licences and known vulnerabilities of the image's packages; writes their SBOM to build/audit
	$(BIN)/python $(IMAGE)/audit.py

lock: ## resolve requirements.txt anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml $(EXTRAS) --extra client --python-version 3.11 --universal --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --upgrade --output-file requirements.txt

clean: ## remove what was built and every local run
	rm -rf build dist .endcap *.egg-info

$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r pyproject.toml $(EXTRAS) \
	  -c requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.DEFAULT_GOAL := help
.PHONY: help demo demo-rollout month test test-slow parts test-cluster chaos check docs compile bench bench-gpu images test-image pin audit lock clean
