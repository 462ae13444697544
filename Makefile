# Every command of this project. Works with GNU make 3.81 and later.

CARGO ?= cargo
TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
WASM_TARGET := wasm32-wasip1
WASM := $(TARGET_DIR)/newrelic-tracing.wasm
BUILT := $(TARGET_DIR)/$(WASM_TARGET)/wasm/newrelic_tracing.wasm

.DEFAULT_GOAL := help
.PHONY: help wasm envoy-demo trace test check bench bench-module budget screenshots validate clean toolchain wasm-target

help: ## lists the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | awk -F '\t' '{ printf "make %-12s %s\n", $$1, $$2 }'

# As a cdylib alone: next to the library for other crates cargo does without optimising across crates, which makes the
# module a fifth larger. Then its calls are made such that V8 compiles each function once.
wasm: wasm-target ## builds target/newrelic-tracing.wasm
	@$(CARGO) rustc --locked --profile wasm --target $(WASM_TARGET) --lib -p newrelic-tracing --crate-type cdylib
	@$(CARGO) run --quiet --locked -p indirect -- $(BUILT) $(WASM)
	@echo "$(WASM): $$(wc -c < $(WASM) | tr -d ' ') bytes"

envoy-demo: wasm ## shows the filter at work in a real Envoy, and checks what it shows
	@ENVOY="$$(sh envoy/find-envoy.sh)" && export ENVOY && \
	  NEWRELIC_TRACING_WASM=$(WASM) $(CARGO) run --quiet --locked -p envoy-demo

trace: toolchain ## prints a trace of the demo as a tree: make trace ID=..., or the latest one
	@$(CARGO) run --quiet --locked -p envoy-demo --bin trace -- $(if $(ID),"$(ID)")

test: wasm ## runs every test: natively, through the wasm module, and through a real Envoy
	@ENVOY="$$(sh envoy/find-envoy.sh)" && export ENVOY && $(CARGO) test --workspace --locked

check: wasm-target ## checks formatting, lints (native and wasm) and docs
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@$(CARGO) clippy -p newrelic-tracing -p bench-floor --lib --target $(WASM_TARGET) --locked -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

bench: wasm ## measures what the filter costs a real Envoy, beside Envoy's own tracer: bench/README.md
	@ENVOY="$$(sh envoy/find-envoy.sh)" && WRK="$$(sh bench/find-wrk.sh)" && export ENVOY WRK && \
	  $(CARGO) rustc --quiet --locked --profile wasm --target $(WASM_TARGET) --lib -p bench-floor --crate-type cdylib && \
	  NEWRELIC_TRACING_WASM=$(WASM) BENCH_FLOOR_WASM=$(TARGET_DIR)/$(WASM_TARGET)/wasm/bench_floor.wasm \
	  $(CARGO) run --quiet --locked -p proxy-bench

bench-module: wasm-target ## counts the instructions of everything that the module does
	@$(CARGO) bench --locked -p host-tests --bench module_cost --profile dev

budget: wasm-target ## records what everything may cost in instructions: host-tests/budget.json
	@UPDATE_BUDGET=1 $(CARGO) test --quiet --locked -p host-tests --test budget everything

screenshots: wasm ## makes the pictures of the README from the running demo
	@ENVOY="$$(sh envoy/find-envoy.sh)" && export ENVOY && \
	  NEWRELIC_TRACING_WASM=$(WASM) $(CARGO) run --quiet --locked -p envoy-demo --example screenshots -- docs/images

validate: toolchain ## checks a plugin configuration offline: make validate CONFIG=file
	@[ -n "$(CONFIG)" ] || { echo "make validate: name the file, as in make validate CONFIG=file" >&2; exit 1; }
	@$(CARGO) run --quiet --locked -p newrelic-tracing --bin validate -- "$(CONFIG)"

clean: toolchain ## removes what was built
	@$(CARGO) clean

toolchain:
	@command -v $(CARGO) > /dev/null || { \
	  echo "make: there is no cargo on this machine; install Rust from https://rustup.rs" >&2; exit 1; }

# The first command also makes rustup install the toolchain that rust-toolchain.toml names.
wasm-target: toolchain
	@libs="$$(rustc --print target-libdir --target $(WASM_TARGET))" && { [ -d "$$libs" ] || \
	  { command -v rustup > /dev/null || { \
	    echo "make: this Rust lacks the target $(WASM_TARGET), and there is no rustup to add it; install Rust from https://rustup.rs" >&2; \
	    exit 1; }; \
	  rustup target add $(WASM_TARGET); }; }
