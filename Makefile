# Everything a person types. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help up build test clients test-compose faults traces console bench lint fmt tools clean

# outside the checkout, so that a fresh clone builds only what has changed
CARGO_TARGET_DIR ?= $(HOME)/.cache/headwater/target
export CARGO_TARGET_DIR
export PATH := $(shell deploy/tools path):$(PATH)

# cargo goes by age alone: what another checkout has built there since would pass for ours, its paths and all
BUILT_FOR := $(CARGO_TARGET_DIR)/checkout
ifneq ($(CURDIR),$(shell cat '$(BUILT_FOR)' 2>/dev/null))
$(shell mkdir -p '$(CARGO_TARGET_DIR)'; git ls-files -z | xargs -0r touch --no-create; echo '$(CURDIR)' >'$(BUILT_FOR)')
endif

# of the parts that tests bring up; PostgreSQL's own user must reach it, so not below a home folder
test faults traces: export HEADWATER_NATIVE_DIR ?= /var/tmp/headwater-test-$(shell id -u)

# a machine may have the pinned toolchain under the name "stable" only: then that one, instead of a download
PINNED := $(shell sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
ifeq (,$(shell rustup toolchain list 2>/dev/null | grep -F '$(PINNED)'))
ifneq (,$(findstring rustc $(PINNED) ,$(shell RUSTUP_TOOLCHAIN=stable rustc --version 2>/dev/null)))
export RUSTUP_TOOLCHAIN := stable
endif
endif

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

up: ## everything in one process, ready in seconds: ARGS="--help" for more
	cargo run --release --locked -- up $(ARGS)

build: ## the program, in $(CARGO_TARGET_DIR)/release/headwater
	cargo build --release --locked

# one profile for programs and tests, clippy's build scripts included: librdkafka is compiled once
test: lint ## everything that must pass, a line per suite; brings up Kafka, PostgreSQL, a Mongo-protocol store and Jaeger for it, and takes them down
	@deploy/tools install grpcurl kafkajs
	@.ci/suite 'clients, built' clients/build
	@deploy/native/stack down --wipe
	@.ci/suite 'kafka, postgres, mongo, jaeger' deploy/native/stack up kafka postgres mongo jaeger
	@trap 'deploy/native/stack down' EXIT; eval "$$(deploy/native/stack env kafka postgres mongo jaeger)"; \
	export HEADWATER_TEST_KAFKA=$$KAFKA_BROKERS HEADWATER_TEST_DATABASE_URL=$$DATABASE_URL HEADWATER_TEST_MONGODB_URI=$$MONGODB_URI \
		HEADWATER_TEST_JAEGER_URL=$$JAEGER_URL HEADWATER_TEST_OTLP_ENDPOINT=$$OTEL_EXPORTER_OTLP_ENDPOINT; \
	unset KAFKA_BROKERS DATABASE_URL MONGODB_URI JAEGER_URL OTEL_EXPORTER_OTLP_ENDPOINT; \
	.ci/suite tests cargo test --workspace --release --locked --no-fail-fast

clients: ## of `make test`: the clients in Python, Go, TypeScript and Java, generated, built, and run against a platform of their own
	@deploy/tools install buf
	@.ci/suite 'clients, built' clients/build
	@.ci/suite 'clients, run' cargo test --workspace --release --locked --test clients

test-compose: ## the platform in containers, killed and scaled: stand-in images where there are no others, the program as built here
	@.ci/suite 'container engine' deploy/images/engine up
	@trap 'deploy/images/engine down' EXIT; .ci/suite images deploy/images/build; \
	.ci/suite program cargo build --release --locked --workspace --bin headwater; \
	.ci/suite 'image of the program' deploy/images/build program "$$CARGO_TARGET_DIR/release/headwater"; \
	.ci/suite compose cargo test --workspace --release --locked --test compose

faults: ## the fault matrix: the platform on real parts that are killed and frozen; some rows: ROWS=1,7b, other traffic: SEED=2
	@.ci/suite parts deploy/native/stack up kafka postgres mongo
	@trap 'deploy/native/stack down --wipe' EXIT; \
	export HEADWATER_FAULT_ROWS='$(or $(ROWS),matrix)' HEADWATER_FAULT_SEED='$(SEED)'; \
	cargo test --workspace --release --locked --test faults

traces: ## of `make test`: one event followed through every service in a real Jaeger
	@.ci/suite jaeger deploy/native/stack up jaeger
	@trap 'deploy/native/stack down' EXIT; eval "$$(deploy/native/stack env jaeger)"; \
	export HEADWATER_TEST_JAEGER_URL=$$JAEGER_URL HEADWATER_TEST_OTLP_ENDPOINT=$$OTEL_EXPORTER_OTLP_ENDPOINT; \
	unset JAEGER_URL OTEL_EXPORTER_OTLP_ENDPOINT; \
	.ci/suite traces cargo test --workspace --release --locked --test trace

console: ## the console's configuration, by its own tools: Prometheus, its alerts, what the dashboards ask it, the collector
	@deploy/tools install otelcol promtool
	@.ci/suite prometheus promtool check config --lint=all --lint-fatal otel/prometheus/prometheus.yaml
	@.ci/suite alerts promtool test rules otel/prometheus/alerts_test.yaml
	@.ci/suite dashboards .ci/dashboards
	@.ci/suite collector otelcol validate --config=otel/collector/collector.yaml

bench: ## how fast the ingress is on a real Kafka and PostgreSQL that it brings up, or with ARGS=activity that service beside one in Node: see bench/run
	cargo build --release --locked --workspace --bins
	bench/run $(ARGS)

lint: ## formats, clippy, licences and bans of dependencies, the contract
	@deploy/tools install buf cargo-deny cargo-machete protoc-gen-doc
	@.ci/suite rustfmt cargo fmt --all --check
	@.ci/suite 'buf format' buf format --diff --exit-code proto --exclude-path proto/google
	@.ci/suite 'buf lint' buf lint
	@.ci/breaking
	@.ci/suite 'docs/api.md is that of proto/' .ci/reference
	@.ci/suite 'cargo machete' cargo machete
	@.ci/suite 'cargo deny' cargo deny --workspace --locked check bans licenses sources
	@.ci/suite clippy cargo clippy --workspace --all-targets --release --locked -- -D warnings
	@.ci/suite 'clippy, the test asked for by name' cargo clippy --workspace --test compose --release --locked -- -D warnings

fmt: ## formats Rust and protobuf, and writes docs/api.md
	@deploy/tools install buf protoc-gen-doc
	cargo fmt --all
	buf format --write proto --exclude-path proto/google
	buf generate --template docs/buf.gen.yaml

tools: ## grpcurl, kcat, kafkajs, buf, protoc-gen-doc, cargo-deny, cargo-machete: in the folder that `deploy/tools path` prints
	@deploy/tools install

clean: ## what was built and what runs have left; not the tools
	rm -rf "$(CARGO_TARGET_DIR)" var
	git clean -fdqX clients
