# What a person types. Every target does its own set-up and says what it is doing.
#
#   make run     start browserfleet on http://127.0.0.1:8931/mcp   (ARGS="--listen …" for more)
#   make test    prove the checkout: unit, contract and end-to-end tests with real Chromium and real MCP clients
#   make lint    format, lints, licences, file sizes: what a reviewer should not have to say
#   make build   the three programs, in target/release

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO := cargo
# Warnings are errors, except for somebody who is in the middle of writing.
STRICT ?= -Dwarnings
PYTHON := .venv/bin/python

.PHONY: help run test lint build clean test-rust test-python setup-browser setup-rust setup-python

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

run: setup-browser build
	exec target/release/browserfleet serve $(ARGS)

build: setup-rust
	@echo "== building (the first time takes a few minutes)"
	$(CARGO) build --release --locked

test: setup-browser test-rust test-python

# The programs are built with the same features as the tests: everything is compiled once.
test-rust: setup-rust
	@echo "== building programs and tests (the first time takes a few minutes)"
	$(CARGO) build --release --locked --workspace --all-features
	$(CARGO) test --release --locked --workspace --all-features --no-run
	@echo "== Rust tests: units, contracts, tools in real Chromium"
	$(CARGO) test --release --locked --workspace --all-features

test-python: setup-python
	@echo "== end-to-end tests: Python MCP clients over HTTP and stdio"
	$(PYTHON) -m pytest tests/python -q

lint: setup-rust
	@echo "== format"
	$(CARGO) fmt --all --check
	@echo "== lints"
	$(CARGO) clippy --release --locked --workspace --all-targets --all-features -- $(STRICT)
	@echo "== sizes, licences and sources"
	scripts/check-sizes.sh
	scripts/check-dependencies.sh

setup-browser:
	@scripts/setup-browser.sh

setup-rust:
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: install it from https://rustup.rs, then try again"; exit 1; }

setup-python:
	@scripts/setup-python.sh

clean:
	$(CARGO) clean
	rm -rf .venv .cache
