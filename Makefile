# What a person types. Every target does its own set-up and says what it is doing.
#
#   make run     start browserfleet on http://127.0.0.1:8931/mcp   (ARGS="--listen …" for more)
#   make test    prove the checkout: unit, contract and end-to-end tests with real Chromium and real MCP clients
#   make test-faults   the long ones: waves of sessions with random kills, for minutes
#   make test-egress   no packet of a browser reaches a forbidden place: in a network namespace it makes itself
#   make test-fleet    what takes a fleet its time to show: lapsing sessions, rolling restarts under load
#   make test-compose  docker-compose.yml with clients: restarts, pauses and kills under load; needs a container engine
#   make test-cgroup2  control groups of version 2, in an emulated machine
#   make fuzz          libFuzzer against whatever reads what comes from outside, FUZZ_SECONDS (60) each
#   make advisories    known holes in dependencies, asked from the RustSec database: needs the network
#   make check-manifests   k8s/ against the schemas of three versions of Kubernetes
#   make lint    format, lints, licences, file sizes, names in docs: what a reviewer should not have to say
#   make build   the three programs, in target/release
#   make bench   ours against raw CDP and Playwright MCP, in one run   (ARGS="--quick --only click" for less)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO := cargo
# Warnings are errors, except for somebody who is in the middle of writing.
STRICT ?= -Dwarnings
PYTHON := .venv/bin/python

.PHONY: help run test test-faults test-egress test-fleet test-compose test-cgroup2 fuzz advisories check-manifests lint build bench clean test-rust test-python setup-browser setup-redis setup-rust setup-python

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

run: setup-browser build
	exec target/release/browserfleet serve $(ARGS)

build: setup-rust
	@echo "== building (the first time takes a few minutes)"
	$(CARGO) build --release --locked

# The programs and the benchmark in one go, with the features of the tests: nothing is compiled twice.
bench: setup-browser setup-redis setup-rust
	@echo "== building what images have (the first time takes minutes: each program is optimised as a whole)"
	$(CARGO) build --profile dist --locked --workspace --all-features
	@echo "== measuring: about eight minutes; every contestant does every piece of work in turn"
	target/dist/browserfleet-bench $(ARGS)

test: setup-browser setup-redis test-rust test-python

# Programs (for the Python tests) and tests, with the same features: everything is compiled once.
test-rust: setup-rust
	@echo "== building programs and tests (the first time takes a few minutes)"
	$(CARGO) build --locked --workspace --all-features --bins --tests
	@echo "== Rust tests: units, contracts, tools in real Chromium"
	$(CARGO) test --locked --workspace --all-features --bins --tests

test-faults: setup-browser setup-redis setup-rust
	@echo "== long tests: what takes minutes to show"
	$(CARGO) test --locked --workspace --all-features --test leaks -- --ignored --nocapture

test-egress: setup-browser setup-rust
	@echo "== every way a page has to reach a forbidden place, and every packet counted"
	$(CARGO) test --locked --workspace --all-features --test egress_vectors -- --ignored --nocapture

test-fleet: setup-browser setup-redis setup-rust setup-python
	@echo "== building (the first time takes a few minutes)"
	$(CARGO) build --locked --workspace --all-features --bins
	@echo "== a fleet of real programs, for minutes"
	$(PYTHON) -m pytest tests/python -q -m fleet -s

test-compose: setup-python
	tests/compose/run.sh

test-cgroup2: setup-rust
	scripts/test-cgroup2.sh

test-python: setup-redis setup-python
	@echo "== end-to-end tests: Python MCP clients over HTTP and stdio"
	$(PYTHON) -m pytest tests/python -q

fuzz: setup-rust
	scripts/fuzz.sh

advisories: setup-rust
	scripts/check-dependencies.sh advisories

check-manifests:
	scripts/check-manifests.sh

lint: setup-rust
	@echo "== format"
	$(CARGO) fmt --all --check
	@echo "== lints"
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- $(STRICT)
	@echo "== sizes, names of tests in docs, licences and sources"
	scripts/check-sizes.sh
	scripts/check-faults.sh
	scripts/check-dependencies.sh

setup-browser:
	@scripts/setup-browser.sh

setup-redis:
	@scripts/setup-redis.sh

setup-rust:
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: install it from https://rustup.rs, then try again"; exit 1; }

setup-python:
	@scripts/setup-python.sh

clean:
	$(CARGO) clean
	rm -rf .venv .cache
