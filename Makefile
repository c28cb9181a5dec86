# Every target is one or two calls; what they do lives in the binaries.
# `make` alone lists them.

CARGO ?= cargo
# Where cargo puts the programs, also if CARGO_TARGET_DIR or `build.target-dir` is set. Only recipes that use BIN ask cargo.
TARGET_DIR = $(shell $(CARGO) metadata --format-version 1 --no-deps --offline | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
BIN = $(TARGET_DIR)/release

.DEFAULT_GOAL := help
.PHONY: help build quickstart test explore check check-cuda check-references fuzz smollm2 synapse-arch serve swarm bench bench-peers install base

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: ## compile both binaries
	$(CARGO) build --release --locked --bin synapse-train --bin synapse-merge

quickstart: build ## train four specialists on the bundled base, merge, measure, publish (under 5 minutes, offline)
	$(BIN)/synapse-train run pipelines/quickstart.yaml --offline

# Property tests draw the same cases on every run, so a failure is a change's and not the draw's; `explore` draws others.
test: export PROPTEST_RNG_SEED ?= 42
test: ## run all tests
	$(CARGO) test --release --locked --workspace

explore: export PROPTEST_CASES ?= 2000
explore: ## property tests on fresh random cases, failing cases are kept as regressions
	$(CARGO) test --release --locked --workspace --lib --bins --tests --no-fail-fast

check: ## formatting, lints, documentation, the kernels as other machines compile them, candle-datasets
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	$(CARGO) test --release --locked -p synapse-kernels --features portable
	$(CARGO) test --release --locked -p synapse-candle --features candle-datasets --lib
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps

check-cuda: ## type-check the CUDA build without CUDA (nvcc from PyPI; minutes)
	CARGO="$(CARGO)" crates/candle/check-cuda.sh

# A Python with the reference libraries; what is missing is said and skipped.
PYTHON ?= python3
check-references: ## compare with transformers, PEFT, TRL, mergekit, llama.cpp, ... (tests/parity/check_references.py; PYTHON=...)
	$(CARGO) build --release --locked --workspace --bins --examples
	$(PYTHON) tests/parity/check_references.py $(TARGET_DIR)

MINUTES ?= 10
fuzz: ## every fuzz target for MINUTES each (needs cargo-fuzz; see fuzz/README.md)
	fuzz/run.sh $(MINUTES)

smollm2: build ## the same job on SmolLM2-135M-Instruct and hub datasets (needs the hub, or HF_ENDPOINT)
	$(BIN)/synapse-train run pipelines/smollm2.yaml

synapse-arch: build ## a model of modules instead of attention, from nothing, with four merged specialists over it (6 minutes, offline)
	$(BIN)/synapse-train run recipes/synapse-arch/nano.yaml --offline
	$(BIN)/synapse-train run pipelines/synapse-arch.yaml --offline

serve: build ## serve what was published last on 127.0.0.1:6900
	$(BIN)/synapse-train up

swarm: build ## serve the quickstart's four specialists, routed by their coordinator, on 127.0.0.1:6900
	$(BIN)/synapse-train serve --swarm pipelines/quickstart.yaml

bench: ## rates of the kernels on this machine
	$(CARGO) bench --locked -p synapse-kernels --bench gemm --bench ops --bench packed

# A Python with the peers, and a model folder such as SmolLM2-135M-Instruct's.
PEERS ?= python3
MODEL ?= data/nano/base
bench-peers: build ## ours against PEFT, llama.cpp and mergekit in one run (PEERS=python MODEL=dir)
	python3 tests/peers/bench_peers.py $(BIN) $(PEERS) $(MODEL)

base: build ## train the bundled base again from its recipe (a quarter of an hour)
	$(BIN)/synapse-train run recipes/nano/base.yaml --offline --force

install: ## put both binaries on the PATH
	$(CARGO) install --locked --path crates/cli
