# What one does with a clone. Each target first brings .venv, the model and llama.cpp's library up to date, which takes
# no time when they are. `make -C DIR` works from anywhere.

SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
BOOTSTRAP := scripts/bootstrap
ARGS ?=
# Files of tests with real processes that run at a time. Each has up to a dozen processes: more than two cores can bear is no faster.
JOBS ?= 2
# Where compiled modules are not kept, every process that a test starts compiles what it imports anew, and pytest every test.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help up test check lint fast rehearse bench lock clean
.NOTPARALLEL:

help: ## this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

up: ## install what is missing and start the platform; ARGS="--web 0.0.0.0:80 …" is passed on
	@$(BOOTSTRAP) run
	@exec $(BIN)/cordee up $(ARGS)

check: lint fast ## format, lint, types, layers, fast tests: two minutes on two cores

# `make check test` runs the fast tests once: they are a step of both.
test: fast ## every test but the rehearsals, with the real model and real processes
	@$(BOOTSTRAP) test
	$(BIN)/python -m pytest --durations=20 -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "(e2e or model) and not rehearsal" $(ARGS)

lint:
	@$(BOOTSTRAP) check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fast:
	@$(BOOTSTRAP) check
	$(BIN)/python -m pytest -n auto -m "not e2e and not rehearsal and not model" $(ARGS)

rehearse: ## the long rehearsals of what must survive
	@$(BOOTSTRAP) test
	$(BIN)/python -m pytest -m rehearsal $(ARGS)

bench: ## the measurements, side by side with their peers; results go to bench/results
	@$(BOOTSTRAP) test
	bench/run $(ARGS)

lock: ## resolve requirements*.in anew into requirements*.lock, with hashes
	scripts/lock

clean: ## remove what was built here; data and downloads stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +
