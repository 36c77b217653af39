SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest

.PHONY: help demo up down status logs reset test test-full bench bench-weights lint golden format lock setup setup-tests

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## Set everything up, deploy the tiny model, print its answer and its benchmark; leave it running.
	@$(PYTHON) -m sandbox demo

up: setup ## Start Kubernetes, S3 and Airflow on this machine.
	@$(PYTHON) -m sandbox up

down: setup ## Stop all of it; leave no process, mount, network device or rule of ours.
	@$(PYTHON) -m sandbox down

status: setup ## Say what runs and how to reach it.
	@$(PYTHON) -m sandbox status

logs: setup ## Follow the parts' logs: make logs PART=kubelet
	@$(PYTHON) -m sandbox logs $(PART)

reset: setup ## Stop all of it and delete its data.
	@$(PYTHON) -m sandbox reset

test: setup-tests lint ## Run every test; sets up what it needs. At most 60 minutes on a fresh machine.
	@$(PYTHON) -m sandbox up
	@$(PYTEST) -m "not full" --durations=10

test-full: setup-tests ## Run also what takes many rounds: make test-full ROUNDS=300 SEED=1 CHAOS_ROUNDS=50
	@$(PYTHON) -m sandbox up
	@ROUNDS=$(or $(ROUNDS),300) $(PYTEST) --hypothesis-seed=$(or $(SEED),1) --durations=10

bench: setup ## Measure Slipway itself: one JSON object for each figure.
	@$(PYTHON) -m sandbox bench

bench-weights: setup ## Compare downloads with s5cmd, boto3 and KServe's initializer, on the sandbox's S3.
	@$(PYTHON) -m benchmarks.weights

lint: setup ## Run ruff, mypy and import-linter.
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

golden: setup ## Write tests/golden and include/schemas anew; read the diff before you commit it.
	@GOLDEN=write $(PYTEST) -q tests/unit/test_golden.py
	@.venv/bin/slipway schemas include/schemas
	@$(PYTHON) -m tests.unit.documents

format: setup ## Put the code into the house's form.
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

COMPILE := $(CURDIR)/.venv/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url \
	--python-version 3.11 --python-platform x86_64-manylinux_2_36
IMAGE_LOCK := --no-header --no-annotate requirements.in --output-file requirements.lock

lock: setup ## Write requirements.lock anew, here and for the images.
	@$(COMPILE) --custom-compile-command "make lock" requirements.txt --output-file requirements.lock
	@cd include/images/tools && $(COMPILE) $(IMAGE_LOCK)
	@cd include/images/vllm-cpu && $(COMPILE) --only-binary :all: --override overrides.txt \
		$$(grep -v '^#' excludes.txt | sed 's/^/--no-emit-package /') $(IMAGE_LOCK)

setup-tests:
	@sandbox/bootstrap.sh postgresql chromium

setup: ## Make .venv from requirements.lock and install what is missing; quick when nothing is.
	@sandbox/bootstrap.sh
