SHELL := bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c

# Real components of the test bed are built once, outside of the checkout.
cache := $(or $(KTHENA_BRIDGE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kthena-bridge)
cargo_deny := 0.20.2
cargo_auditable := 0.7.7
# The container image's binary is for this machine unless TARGET says otherwise.
image_target := $(or $(TARGET),$(shell uname -m)-unknown-linux-musl)

.PHONY: help
help: ## What there is.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s $$'\t'

.PHONY: prerequisites
prerequisites:
	@for tool in cargo go python3 ip unshare; do \
	  command -v $$tool >/dev/null || { echo "'$$tool' is not installed: Rust, Go 1.26, Python 3 with pip, iproute2 and util-linux are needed" >&2; exit 1; }; \
	done

.PHONY: test
test: prerequisites ## Every test, unit to end-to-end. The first run builds the real components (about 15 minutes on 2 cores).
	parts=$$(e2e/parts/fetch)
	cargo build --workspace --bins
	cargo test --workspace --no-run
	export KTHENA_BRIDGE_PARTS=$$parts
	e2e/sandbox cargo test --workspace --offline
	e2e/sandbox target/debug/testbed truth
	e2e/sandbox target/debug/testbed faults --sample 30 --walks 2 --together 4
	# Once more, with ModelExposures in place of annotations, but for the tests that are about ModelExposures alone.
	export KTHENA_BRIDGE_EXPOSED_BY=ModelExposure
	e2e/sandbox cargo test --workspace --offline --test operator --test configured --test namespaced --test replicas -- --skip model_exposure:: --skip model_server::
	e2e/sandbox target/debug/testbed truth
	e2e/sandbox target/debug/testbed faults --sample 30 --walks 2 --together 4

.PHONY: truth
truth: prerequisites ## Break an exposure in every way there is, and compare what a client gets with the Model's conditions; the last line is JSON. ONLY=part of a name.
	parts=$$(e2e/parts/fetch)
	cargo build --workspace --bins
	KTHENA_BRIDGE_PARTS=$$parts e2e/sandbox target/debug/testbed truth $(if $(ONLY),--only "$(ONLY)")

.PHONY: faults
faults: prerequisites ## Kill the operator at every write, lose, refuse and delay its requests, break its watches, over the whole life of an exposure; the last line is JSON. ONLY=part of a name, SAMPLE=so many plans, OTHER=the operator's binary of another version.
	parts=$$(e2e/parts/fetch)
	cargo build --workspace --bins
	KTHENA_BRIDGE_PARTS=$$parts e2e/sandbox target/debug/testbed faults $(if $(ONLY),--only "$(ONLY)") $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(OTHER),--other "$(OTHER)")

.PHONY: chart
chart: prerequisites ## Check the Helm chart: its unit tests, many sets of values on a real API server, install, upgrade and uninstall.
	parts=$$(e2e/parts/fetch)
	cargo build --workspace --bins
	cargo test --package testbed --test chart --no-run
	KTHENA_BRIDGE_PARTS=$$parts e2e/sandbox cargo test --package testbed --test chart --offline

.PHONY: demo
demo: prerequisites ## Expose Kthena's example Model on the test bed, ask it, and take it back. KEEP=1 leaves it running.
	parts=$$(e2e/parts/fetch)
	cargo build --workspace --bins
	KTHENA_BRIDGE_PARTS=$$parts e2e/sandbox target/debug/testbed demo $(if $(KEEP),--keep)

.PHONY: bed
bed: prerequisites ## Start the test bed and keep it until Ctrl-C; it prints how to reach it.
	parts=$$(e2e/parts/fetch)
	cargo build --workspace --bins
	KTHENA_BRIDGE_PARTS=$$parts e2e/sandbox target/debug/testbed up

.PHONY: bench
bench: prerequisites ## Measure how long it takes from the annotation to the HTTPRoute, over 200 Models; the last line is JSON.
	parts=$$(e2e/parts/fetch)
	cargo build --workspace --bins
	cargo build --release --package kthena-bridge
	KTHENA_BRIDGE_PARTS=$$parts e2e/sandbox target/debug/testbed bench --operator $(CURDIR)/target/release/kthena-bridge

.PHONY: bench-scale
bench-scale: prerequisites ## Measure speed, requests, memory and CPU with 1,000, 5,000 and 10,000 Models, against the raw floor of the API server (about half an hour on 2 cores); the last line is JSON. MODELS=100,1000, ARGUMENTS=other options of `testbed bench-scale`.
	parts=$$(e2e/parts/fetch)
	cargo build --release --package kthena-bridge
	cargo build --release --package testbed --bin testbed
	KTHENA_BRIDGE_PARTS=$$parts e2e/sandbox target/release/testbed bench-scale --operator $(CURDIR)/target/release/kthena-bridge $(if $(MODELS),--models "$(MODELS)") $(ARGUMENTS)

.PHONY: generate
generate: ## Write what is made from something else: tables in docs/, the definitions in crds/, the schema of the chart's values, and the table in its README.
	REGENERATE=1 cargo test --package testbed --test docs the_table_is
	REGENERATE=1 cargo test --package testbed --test chart generated -- --test-threads=1

# cargo-auditable puts the list of the crates that the binary is made of into it. Neither the checkout's folder nor
# Cargo's home shows in the bytes. The path of cargo-auditable does, since Cargo makes it a part of the crates' hashes:
# to compare with the image's binary, build with KTHENA_BRIDGE_CACHE=/tmp/kthena-bridge, as there.
.PHONY: image-binary
image-binary: ## The binary of the container image, as the Dockerfile builds it: target/image/kthena-bridge, static. TARGET=another musl target.
	tool=$(cache)/tools/cargo-auditable-$(cargo_auditable)
	test -x $$tool/bin/cargo-auditable || cargo install cargo-auditable --version $(cargo_auditable) --locked --root $$tool
	rustup target add $(image_target)
	cargo fetch --locked --target $(image_target)
	flags=(--remap-path-prefix=$(CURDIR)=/kthena-bridge)
	for sources in "$${CARGO_HOME:-$$HOME/.cargo}"/registry/src/*; do flags+=(--remap-path-prefix="$$sources"=/cargo); done
	commit=$$(rustc -vV | sed -n 's/^commit-hash: //p')
	flags+=(--remap-path-prefix="$$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$$commit")
	# On arm64 a page may have 64 KiB, and the allocator has to know the largest.
	case $(image_target) in aarch64*) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;; esac
	IFS=$$'\x1f'
	CARGO_ENCODED_RUSTFLAGS="$${flags[*]}" PATH="$$tool/bin:$$PATH" \
	  cargo auditable build --locked --release --package kthena-bridge --target $(image_target) --target-dir target
	mkdir -p target/image
	cp target/$(image_target)/release/kthena-bridge target/image/

.PHONY: test-image-binary
test-image-binary: prerequisites image-binary ## Check that the image's binary needs nothing beside it, and run the operator's tests with it. ONLY=part of a name.
	binary=$(CURDIR)/target/image/kthena-bridge
	empty=$$(mktemp -d)
	trap 'rm -r "$$empty"' EXIT
	cp "$$binary" "$$empty/"
	unshare --user --map-root-user --root="$$empty" /kthena-bridge --version
	if grep -qF -e "$(CURDIR)" -e "$$HOME" "$$binary"; then echo "$$binary has paths of this machine in it" >&2; exit 1; fi
	parts=$$(e2e/parts/fetch)
	cargo build --workspace --bins
	cargo test --package testbed --test operator --no-run
	KTHENA_BRIDGE_BINARY=$$binary KTHENA_BRIDGE_PARTS=$$parts e2e/sandbox cargo test --package testbed --test operator --offline $(ONLY)

.PHONY: deny
deny: ## Check the dependencies: bans, licences, sources.
	test -x $(cache)/tools/bin/cargo-deny && $(cache)/tools/bin/cargo-deny --version | grep -qF $(cargo_deny) \
	  || cargo install cargo-deny --version $(cargo_deny) --locked --root $(cache)/tools
	$(cache)/tools/bin/cargo-deny --workspace check --hide-inclusion-graph bans licenses sources

.PHONY: fmt
fmt: ## Format.
	cargo fmt --all
