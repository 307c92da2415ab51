# Two commands are all you need: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/sh
PYTHON ?= python3
# local or s3: where the demo's dataset, run and reports lie. s3 starts a real S3 server on this machine.
STORAGE ?= local
# An empty folder starts the demo from nothing; the same again continues it.
OUT ?= out/demo
RUN := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup demo test unit integration browser bench bench-peers check format lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## leave the locked environment in .venv
	@PYTHON="$(PYTHON)" sh infra/setup/setup.sh

demo: setup ## prepare Fashion-MNIST, train on two workers, evaluate, report (STORAGE=s3: on object storage)
	@RUN="$(RUN)" OUT="$(OUT)" STORAGE="$(STORAGE)" sh infra/demo.sh

test: check unit integration browser ## everything CI runs

unit: setup ## the tests that need no cluster
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal tests/unit tests/infra

integration: setup ## the tests on a real Ray cluster, a real S3 server and the real data
	$(RUN) -m pytest tests/integration

browser: setup ## the tests of the pages in a real Chromium, with pictures of them in out/browser
	@sh infra/setup/chromium.sh
	$(RUN) -m pytest tests/browser

check: setup ## format, lint, strict types, import layers
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	.venv/bin/lint-imports

format: setup ## rewrite the code in the one format
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

# STAGE=step or STAGE="step start"; PAIRS=1 for a try; RECORD=docs/benchmarks for a record to commit.
PAIRS ?= 5
RECORD ?= out/bench
bench: setup ## measure against named peers, as ratios: all stages, hours (STAGE=step for one, PAIRS=1 for a try)
	$(RUN) -m jobs.bench $(STAGE) --pairs $(PAIRS) --output "$(RECORD)"

bench-peers: setup ## leave PyTorch, a peer of `make bench`, in .venv-peers (5 GB: PyPI's Linux build brings CUDA)
	.venv/bin/uv venv --quiet --allow-existing --python .venv/bin/python .venv-peers
	.venv/bin/uv pip install --quiet --python .venv-peers/bin/python --require-hashes -r infra/bench/peers.lock

COMPILE := .venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate \
	--custom-compile-command 'make lock'
lock: setup ## write the lock files anew
	$(COMPILE) pyproject.toml --extra dev --extra bench -o requirements.lock
	$(COMPILE) pyproject.toml -o infra/docker/requirements.lock
	$(COMPILE) pyproject.toml --extra cuda -o infra/docker/requirements-cuda.lock
	$(COMPILE) infra/bench/peers.in -o infra/bench/peers.lock
	grep '^uv==' requirements.lock | cut -d' ' -f1 | $(COMPILE) --no-header - -o infra/setup/bootstrap.lock

clean: ## remove what the demo left
	rm -rf out
