# Needs make, Python 3.11 or newer and a package index; everything else is installed into .venv.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo install install-dev test test-unit check fuzz bench bench-long bench-serving bench-models trace chaos kafka emulators images train lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: .venv/run.stamp  ## Classify 1,000 sample images with two workers on this machine
	@$(BIN)/fashion demo

install: .venv/run.stamp  ## Install clients, workers and the Google adapters into .venv (no TensorFlow)

install-dev: .venv/dev.stamp  ## Install everything: also the trainer, tests and checks

# Three at a time, for most of what the tests with real processes do is wait; the tests of a file share its servers.
test: .venv/dev.stamp  ## Run every test (real servers are started where they are installed)
	@$(BIN)/python -m pytest -n 3 --dist loadfile

test-unit: .venv/dev.stamp  ## Run the unit tests: no network, no servers, seconds
	@$(BIN)/python -m pytest tests/unit

check: .venv/dev.stamp  ## Lint, check types and layers, look for insecure code and known vulnerabilities
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
	@$(BIN)/bandit -q -c pyproject.toml -r . && echo "bandit: nothing found"
	@$(BIN)/python tests/audit.py

fuzz: .venv/dev.stamp  ## Feed hostile messages and files to a worker: 600 s, or SECONDS=30
	@$(BIN)/python fuzz/run.py --seconds $(or $(SECONDS),600)

bench: .venv/dev.stamp  ## Measure speed on this machine: a table, and build/bench.json
	@$(BIN)/python bench/run.py

bench-long: .venv/dev.stamp  ## Measure a backlog of a million requests and memory over 100,000
	@$(BIN)/python bench/long.py

bench-serving: .venv/dev.stamp  ## Measure a worker whose model a server holds
	@$(BIN)/python bench/serving.py

bench-models: .venv/dev.stamp  ## Measure models, runtimes and precisions on one core: a table, JSON and a chart
	@$(BIN)/python bench/models.py $(ARTIFACTS)

BROKER ?= embedded
KILLS ?= 20
REQUESTS ?= 2000
chaos: .venv/dev.stamp  ## Kill workers, client and broker under load: BROKER=embedded|pubsub|kafka|kafka-share KILLS=20 REQUESTS=2000
	@$(BIN)/python chaos/run.py --broker $(BROKER) --kills $(KILLS) --requests $(REQUESTS)

trace: .venv/dev.stamp  ## Show one request of 100 images as a tree of spans
	@$(BIN)/python bench/trace.py

kafka: build/kafka/jars.stamp  ## Fetch the Apache Kafka broker that tests and benchmarks start (needs Java and Maven)

emulators: .venv/dev.stamp  ## Run the Pub/Sub emulator and a GCS server until Ctrl-C
	@$(BIN)/python tests/servers.py

images:  ## Build the container images (docker, podman or buildah)
	@deploy/build_images.sh

train: .venv/dev.stamp  ## Train with the quick preset
	@$(BIN)/fashion train --preset quick

lock:  ## Choose versions anew (needs uv)
	uv pip compile pyproject.toml --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --all-extras --group install --group test --group check --group fuzz -o requirements/dev.lock
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --extra client --extra worker --extra google --extra kafka --extra tf-serving --extra telemetry \
	  --group install -c requirements/dev.lock -o requirements/run.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --group pyproject.toml:install -c requirements/dev.lock -o requirements/build.lock
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra worker --extra google --extra kafka --extra tf-serving --extra telemetry -c requirements/dev.lock \
	  -o requirements/worker.lock
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra client --extra google --extra kafka --extra telemetry -c requirements/dev.lock -o requirements/client.lock
	uv pip compile requirements/kserve.in --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header -o requirements/kserve.lock

clean:  ## Remove what was installed, built and sent
	rm -rf .venv build var

build/kafka/jars.stamp: tests/kafka/pom.xml
	@command -v mvn >/dev/null || { echo "Maven is needed to fetch Kafka: apt-get install maven"; exit 1; }
	@mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/build/kafka
	@touch $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found on PATH."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11; name a newer one: make PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/run.stamp: requirements/run.lock pyproject.toml | .venv/bin/python
	@echo "Installing what clients and workers need into .venv (about a minute) ..."
	@$(PIP) install --require-hashes -r requirements/run.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev.stamp: requirements/dev.lock .venv/run.stamp
	@echo "Installing what training, tests and checks need into .venv (a few minutes) ..."
	@$(PIP) install --require-hashes -r requirements/dev.lock
	@touch $@
