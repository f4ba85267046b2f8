# OptiInfra: `make help` lists what there is. Everything is installed into .venv beside this file.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test test-kafka test-vllm kvtier-wheel lint bench scenarios kafka clean python

# Python 3.11 or 3.12 by name, with venv. Override: make run PYTHON=/path/to/python3.12
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	2>/dev/null && { command -v $$p; break; }; done)
BIN := .venv/bin
ARGS ?=
# The suite waits for its processes more than it computes: one worker more than there are cores (ARGS="-n 0": none).
# A whole platform computes: those tests have the machine to themselves.
SPREAD := -n auto --dist worksteal
# Kafka's port and data for `make kafka`.
KAFKA_PORT ?= 9092
KAFKA_STATE ?= .optiinfra/kafka

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile
	@echo '  options: ARGS="--speed 20 --for 2m" with run, NAME=scrape with bench, PYTHON=… for another interpreter'

.venv/.run: pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 with venv found. Install one (Debian: apt install python3 python3-venv) or say PYTHON=/path/to/python." >&2; exit 2; }
	@test -x $(BIN)/python || { echo "Creating .venv with $(PYTHON) …"; "$(PYTHON)" -m venv .venv; }
	@echo "Installing OptiInfra into .venv (a few minutes the first time) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[store,redis,llm,report]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[durable]' >.venv/durable.log 2>&1 || \
	echo "durable_rules was not built (a C compiler and Python's headers are needed, see .venv/durable.log): rules run on the reference evaluator."
	@touch $@

.venv/.dev: .venv/.run
	@echo "Installing the development tools into .venv …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[store,redis,llm,report,durable,dev]'
	@touch $@

run: .venv/.run ## set up, then watch a simulated fleet live (Ctrl-C stops everything)
	@$(BIN)/optiinfra up $(ARGS)

test: .venv/.dev ## the whole suite on the embedded broker, then the shared and Kafka-only suites on Apache Kafka
	$(BIN)/python -m pytest -m "not kafka and not platform" $(SPREAD) $(ARGS)
	$(BIN)/python -m pytest -m "platform" $(ARGS)
	$(BIN)/python -m pytest -m "(broker or kafka) and not platform" --broker kafka $(SPREAD) $(ARGS)
	$(BIN)/python -m pytest -m "(broker or kafka) and platform" --broker kafka $(ARGS)

test-kafka: .venv/.dev ## only the suites that run on Apache Kafka
	$(BIN)/python -m pytest -m "(broker or kafka) and not platform" --broker kafka $(SPREAD) $(ARGS)
	$(BIN)/python -m pytest -m "(broker or kafka) and platform" --broker kafka $(ARGS)

test-vllm: .venv/.dev ## the disk tier in a real vLLM on the CPU, in an environment of its own (6 GB, some ten minutes)
	tests/kvtier/real_vllm/environment.sh .venv-vllm
	$(BIN)/python -m pytest -p no:randomly tests/kvtier/real_vllm/check_*.py $(ARGS)

kvtier-wheel: .venv/.run ## the small wheel for vLLM's own environment, into dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist packaging/kvtier
	@ls dist/optiinfra_kvtier-*.whl

lint: .venv/.dev ## ruff, mypy --strict, import law
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev ## all of bench/, or one: make bench NAME=scrape
	$(BIN)/python -m bench $(NAME)

scenarios: .venv/.run ## the pictures and tables of docs/scenarios anew, or of one: make scenarios NAME=burst
	$(BIN)/python -m bench.scenarios $(NAME)

kafka: .venv/.run ## a real single-node Apache Kafka on loopback (Java 17 and Maven), data kept
	@$(BIN)/python -m streams.brokers.apache --port $(KAFKA_PORT) --state-dir $(KAFKA_STATE)

python: # prints the interpreter that .venv is made with; empty when there is none
	@echo $(PYTHON)

# Who runs holds the lock; what is kept under it must not be pulled away (Kafka's data has a reset of its own).
clean: ## remove .venv, caches and state; Kafka's data in .optiinfra/kafka stays, save with KAFKA_TOO=1
	@test ! -e .optiinfra/lock || "$(or $(PYTHON),python3)" -c 'import fcntl; fcntl.flock(open(".optiinfra/lock"), fcntl.LOCK_EX | fcntl.LOCK_NB)' \
	2>/dev/null || { echo "optiinfra runs here: end it first (Ctrl-C in its terminal; optiinfra status tells its process)." >&2; exit 4; }
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@test ! -d .optiinfra || find .optiinfra -mindepth 1 -maxdepth 1 $(if $(KAFKA_TOO),,! -name kafka) -exec rm -rf {} +
