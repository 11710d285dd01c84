.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

# Debian packages that tests use: fault injection, a false clock, clients, file systems to break, proxies, servers.
# `make test TEST_PACKAGES=` leaves them out, on a machine where they cannot be installed.
TEST_PACKAGES ?= strace libfaketime curl e2fsprogs iproute2 nftables nginx haproxy nodejs npm chromium chromium-driver \
	postgresql redis-server nats-server pgbouncer prometheus
# Handed to what the target runs: `make test ARGS='-k ledger'`, `make lock ARGS=--upgrade`.
ARGS ?=

BIN := .venv/bin
STAMP := .venv/setup.stamp
NODE := tests/clients/node
NODE_STAMP := $(NODE)/node_modules/setup.stamp

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## Make .venv from the lock file; instant when nothing changed

$(STAMP): pyproject.toml requirements/dev.lock scripts/setup.sh
	@scripts/setup.sh
	@touch $@

.PHONY: run
run: setup ## Start the demo on this machine
	$(BIN)/restante demo $(ARGS)

.PHONY: cluster
cluster: setup ## Start a whole cluster on this machine: PostgreSQL twice, Redis, two nodes, nginx
	$(BIN)/python deploy/cluster/cluster.py up $(ARGS)

.PHONY: check
check: setup ## Format, lint, types, layers and unit tests: under a minute
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy $(wildcard src tests scripts/screenshots)
	$(BIN)/lint-imports --no-logo
	scripts/test.sh unit -- --quiet $(ARGS)

.PHONY: format
format: setup ## Format the code and mend what the linter can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: test-packages
test-packages:
	@scripts/ensure-debian-packages.sh $(TEST_PACKAGES)

# Other people's clients in JavaScript; instant when nothing changed.
$(NODE_STAMP): $(NODE)/package.json $(NODE)/package-lock.json scripts/node-clients.sh | test-packages
	@scripts/node-clients.sh
	@touch $@

.PHONY: test
test: setup test-packages $(NODE_STAMP) ## Run every test but the long lane
	scripts/test.sh parallel servers -- $(ARGS)

.PHONY: test-long
test-long: setup test-packages $(NODE_STAMP) ## Run the long lane: many cycles of every failure
	scripts/test.sh long -- $(ARGS)

.PHONY: screenshots
screenshots: setup test-packages ## Take the pictures of every page anew, into docs/screenshots
	$(BIN)/python -m scripts.screenshots.take $(ARGS)

.PHONY: bench
bench: setup ## Run the standard workloads
	$(BIN)/restante bench $(ARGS)

.PHONY: proto
proto: setup ## Generate the Python modules of restante.proto
	$(BIN)/python -m grpc_tools.protoc --proto_path=src/restante/web \
		--python_out=src/restante/wire/proto --pyi_out=src/restante/wire/proto restante.proto

.PHONY: lock
lock: setup ## Write the lock files anew from pyproject.toml
	scripts/lock.sh $(ARGS)

.PHONY: clean
clean: ## Remove .venv, caches and builds; data directories stay
	rm -rf $(NODE)/node_modules .venv .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
