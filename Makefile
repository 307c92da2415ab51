# Two commands are all you need: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/sh
PYTHON ?= python3
# local or s3: where the demo keeps its dataset, run and reports. s3 starts a real S3 server on this machine.
STORAGE ?= local
# The folder of the demo. With an empty folder the demo starts from the beginning; with the same folder it continues.
OUT ?= out/demo
RUN := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup demo test unit integration browser bench bench-peers fuzz soak ladder ladder-seconds check format lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## install the locked environment into .venv
	@PYTHON="$(PYTHON)" sh infra/setup/setup.sh

demo: setup ## prepare Fashion-MNIST, train on two workers, evaluate, report (STORAGE=s3: on object storage)
	@RUN="$(RUN)" OUT="$(OUT)" STORAGE="$(STORAGE)" sh infra/demo.sh

test: check unit fuzz integration browser ## run everything that CI runs

unit: setup ## run the tests that need no cluster
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal tests/unit tests/infra

integration: setup ## run the tests on a real Ray cluster, a real S3 server and the real data
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=25 tests/integration --ignore tests/integration/test_cluster.py
	$(RUN) -m pytest tests/integration/test_cluster.py # alone: of two clusters on a machine, Ray gives a submitted job the newer one

browser: setup ## test the pages in a real Chromium, and save pictures of them in out/browser
	@sh infra/setup/chromium.sh
	$(RUN) -m pytest tests/browser

FUZZ_INPUTS ?= 30
fuzz: setup ## damage files and documents in many ways, and parse them (FUZZ_INPUTS=20000 for each parser: hours)
	FUZZ_INPUTS=$(FUZZ_INPUTS) $(RUN) -m pytest -n auto --maxprocesses 4 tests/fuzz

MINUTES ?= 30
SEED ?= 0
soak: setup ## train and evaluate under random faults for MINUTES, and compare with a calm run
	$(RUN) -m tests.soak --minutes $(MINUTES) --seed $(SEED)

# The rungs for a CPU in hours. RUNGS=strong needs a night, RUNGS=best a GPU.
RUNGS ?= tutorial challenge same-cost same-minutes small
SEEDS ?= 0 1 2
LADDER ?= out/ladder
ladder: setup ## train recipes under rules of cost with three seeds each, and compare them with published results: hours
	@RUN="$(RUN)" OUT="$(LADDER)" RUNGS="$(RUNGS)" SEEDS="$(SEEDS)" sh infra/ladder/climb.sh

# How long the recipe takes from command to checkpoint, for five seeds: leave the machine alone meanwhile.
ladder-seconds: setup ## measure the time to 93 % on Fashion-MNIST: 20 minutes
	$(RUN) -m jobs.prepare fashion-mnist --output "$(LADDER)/data"
	$(RUN) -m infra.ladder.seconds infra/ladder/recipes/seconds.toml --data "$(LADDER)/data" --output "$(LADDER)/seconds"

check: setup ## check format, lint, strict types and import layers
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	.venv/bin/lint-imports

format: setup ## format the code
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

# STAGE=step or STAGE="step start"; PAIRS=1 for a trial; RECORD=docs/benchmarks for a record to commit.
PAIRS ?= 5
RECORD ?= out/bench
bench: setup ## compare with named peers, as ratios: all stages, hours (STAGE=step for one, PAIRS=1 for a trial)
	$(RUN) -m jobs.bench $(STAGE) --pairs $(PAIRS) --output "$(RECORD)"

bench-peers: setup ## install PyTorch, a peer of `make bench`, into .venv-peers (5 GB: the Linux build on PyPI has CUDA)
	.venv/bin/uv venv --quiet --allow-existing --python .venv/bin/python .venv-peers
	.venv/bin/uv pip install --quiet --python .venv-peers/bin/python --require-hashes -r infra/bench/peers.lock

COMPILE := .venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate \
	--custom-compile-command 'make lock'
lock: setup ## write new lock files
	$(COMPILE) pyproject.toml --extra dev --extra bench -o requirements.lock
	$(COMPILE) pyproject.toml -o infra/docker/requirements.lock
	$(COMPILE) pyproject.toml --extra cuda -o infra/docker/requirements-cuda.lock
	$(COMPILE) infra/bench/peers.in -o infra/bench/peers.lock
	grep '^uv==' requirements.lock | cut -d' ' -f1 | $(COMPILE) --no-header - -o infra/setup/bootstrap.lock

clean: ## remove the files of the demo
	rm -rf out
