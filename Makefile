# Every target works from a fresh clone: each begins with `make install`, which does nothing when
# .venv is up to date. Paths are relative, since make cannot cope with a space in one.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install run test servers lint bench chaos attacks alarms fuzz stalls path docs reference screenshots viewers vendor helm-lint previous

# The interpreter to build .venv with; when empty, the first of python3, python3.13, … that will do.
PYTHON ?=
# More for pytest or for the benchmarks: make test ARGS="-k flush"
ARGS ?=
# Random kills, the seed that repeats a run, and CONTROL=1 for the run that must find a loss.
KILLS ?= 20
SEED ?=
CONTROL ?=

# Servers for `make servers`, where they are not those of the lock: a program, and a directory of
# programs (docs/other-servers.md).
REDIS ?=
POSTGRES ?=
STORING := counting flushing reading upkeep event_log redis postgres

# Live counters of `make stalls`: it takes a minute a million.
COUNTERS ?= 5000000

# How long `make fuzz` goes on trying.
MINUTES ?= 10

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile

install:  ## Make .venv with everything in requirements.lock and this project
	@PYTHON="$(PYTHON)" sh .ci/install

run: install  ## Start the whole pipeline on this machine, with example events
	@exec .venv/bin/analytics up --example

test: install  ## Run all tests against real Redis and Postgres servers
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

servers: install  ## Test with other servers: REDIS=/usr/bin/redis-server POSTGRES=/usr/lib/postgresql/15/bin
	ANALYTICS_TEST_REDIS_BINARY="$(REDIS)" ANALYTICS_TEST_POSTGRES_BIN="$(POSTGRES)" \
		.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(STORING:%=tests/integration/%) $(ARGS)
	ANALYTICS_TEST_REDIS_BINARY="$(REDIS)" ANALYTICS_TEST_POSTGRES_BIN="$(POSTGRES)" \
		.venv/bin/python -m tests.chaos --kills $(KILLS) $(if $(SEED),--seed $(SEED))

lint: install  ## Check style, types and who imports whom
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: install  ## Measure the pipeline beside its rivals, 13 minutes: QUICK=1 for three
	.venv/bin/python -m benchmarks $(if $(QUICK),--quick) $(ARGS)

chaos: install  ## Kill processes at random and check the counts: KILLS=20 SEED=1 CONTROL=1
	.venv/bin/python -m tests.chaos --kills $(KILLS) $(if $(SEED),--seed $(SEED)) $(if $(CONTROL),--control)

attacks: install  ## Measure honest clients beside attackers, 20 minutes: ARGS="--only slow ids"
	.venv/bin/python -m tests.attacks $(ARGS)

alarms: install  ## Measure how soon alarms come and go at the default settings, 13 minutes: ARGS="--only beat"
	.venv/bin/python -m tests.alarms $(ARGS)

fuzz: install  ## Try whatever clients, queues and files may hold: MINUTES=10
	ANALYTICS_TEST_FUZZ_SECONDS=$$(($(MINUTES) * 45)) .venv/bin/python -m pytest tests/fuzz $(ARGS)
	.venv/bin/python -m tests.fuzz.guided --seconds $$(($(MINUTES) * 15))

stalls: install  ## See that no command holds Redis for 20 ms: COUNTERS=5000000
	ANALYTICS_TEST_COUNTERS=$(COUNTERS) .venv/bin/python -m pytest -s tests/integration/flushing/test_stalls.py $(ARGS)

path: install  ## Follow one event from .delay() to its row: ARGS=-v lists its stops
	@.venv/bin/python -m tests.path $(ARGS)

docs: install  ## Build the documentation into build/docs; it fails on a broken link
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet $(ARGS)

reference: install  ## Write the pages of docs/reference that are made from the code
	@.venv/bin/python -m tests.reference

screenshots: install  ## Make the pictures of dashboard and Flower in docs/, with made events: ARGS="--only live"
	.venv/bin/python -m tests.dashboard.screenshots $(ARGS)

viewers: install  ## Measure what 200 viewers of the dashboard cost: ARGS="--viewers 50"
	.venv/bin/python -m tests.dashboard.viewers $(ARGS)

vendor: install  ## Fetch what the dashboard serves of other projects, as its lock says: ARGS=--update
	.venv/bin/python .ci/vendor.py $(ARGS)

helm-lint: install  ## Check the Helm chart with helm and the schemas of Kubernetes, which it fetches
	.venv/bin/python .ci/deploying.py
	.venv/bin/python -m pytest tests/unit/project/test_chart.py $(ARGS)

previous: install  ## After a release: keep its wheel for the tests of rolling upgrades: REF=v1.2.3
	.venv/bin/python .ci/previous.py $(REF)
