# Copyright The otelcol-tapio Authors
# SPDX-License-Identifier: Apache-2.0

# "make" lists the targets. "make build" needs only Go, "make generate" also clang.

CLANG        ?= clang-19
LLVM_STRIP   ?= llvm-strip-19
CLANG_FORMAT ?= clang-format-19
GOLANGCI     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

TOOLS := $(CURDIR)/internal/tools/go.mod
# The tools run here, also when GOOS and GOARCH say what to build.
TOOL  := GOOS= GOARCH= go tool -modfile=$(TOOLS)
# Stripped, and with functions aligned to 16 bytes as they long were: 32 would cost 1.4 MB.
OCB    = $$($(TOOL) -n builder) --ldflags='-s -w -funcalign=16' --config builder-config.yaml

# What is linked, and whether it may be: tools with a module of their own.
SUPPLYCHAIN := $(CURDIR)/internal/supplychain
SUPPLY_TOOL := GOOS= GOARCH= GOWORK=off go tool -modfile=$(SUPPLYCHAIN)/go.mod

# For another platform: make build GOOS=linux GOARCH=arm64
HOST   := $(shell go env GOHOSTOS)_$(shell go env GOHOSTARCH)
TARGET := $(shell GOOS=$(GOOS) go env GOOS)_$(shell GOARCH=$(GOARCH) go env GOARCH)
EXE    := $(shell GOOS=$(GOOS) go env GOEXE)
BINARY ?= bin/otelcol-tapio$(if $(filter-out $(HOST),$(TARGET)),_$(TARGET))$(EXE)

# 0.1.0+g1a2b3c4.dirty, or 0.1.0 without git.
COMMIT  = $(shell git rev-parse --short HEAD 2>/dev/null)
DIRTY   = $(shell git diff --quiet HEAD || echo .dirty)
VERSION = $(shell sed -n 's/^  version: //p' builder-config.yaml)$(if $(COMMIT),+g$(COMMIT)$(DIRTY))

METADATA := $(wildcard receiver/*/metadata.yaml processor/*/metadata.yaml extension/*/metadata.yaml)
# What "make generate" writes.
GENERATED := '*_bpfe?.go' '*_bpfe?.o' '*/generated_*' '*/documentation.md' '*/README.md'

TESTFLAGS  ?=
BENCHFLAGS ?=

.DEFAULT_GOAL := help
# make lock build: one after the other.
.NOTPARALLEL:

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: check-lock ## Build bin/otelcol-tapio, for GOOS and GOARCH if set. Needs no clang.
	@mkdir -p $(dir $(BINARY))
	@# ocb takes dist.version from the environment, so Go need not stamp the commit (-buildvcs).
	@# The lock has to fit (-mod=readonly).
	env 'dist.version=$(VERSION)' GOWORK=off GOFLAGS='-mod=readonly -buildvcs=false' $(OCB) --skip-get-modules || \
		{ echo "If Go complains about go.mod or go.sum, run: make lock build" >&2; exit 1; }
	@# One that is the same stays, with the capabilities that it may have been given (setcap).
	if cmp -s distribution/otelcol-tapio$(EXE) $(BINARY); then rm distribution/otelcol-tapio$(EXE); else mv distribution/otelcol-tapio$(EXE) $(BINARY); fi

.PHONY: check-lock
check-lock: # ocb would not notice that the lock has another version than builder-config.yaml.
	@sed -n 's/^  - gomod: //p' builder-config.yaml | while read -r module; do \
		grep -qE "^	$$module( //.*)?$$" distribution/go.mod || \
			{ echo "distribution/go.mod has no $$module. Run: make lock" >&2; exit 1; }; \
	done

.PHONY: lock
lock: ## Resolve the modules of the distribution anew, after a change of builder-config.yaml or go.mod.
	env GOWORK=off GOFLAGS=-buildvcs=false $(OCB) --skip-compilation

# eBPF needs privileges, building does not: only the collector is run by sudo. Without it, for one that
# has the capabilities by setcap: make run SUDO=
SUDO ?= $(if $(filter-out 0,$(shell id -u)),sudo --preserve-env=TAPIO_SCOPE$(COMMA)TAPIO_DATA$(COMMA)TAPIO_OTLP_ENDPOINT)
COMMA := ,

# What else is configured: TO=jaeger is otelcol-jaeger.yaml.
TO      ?=
CONFIGS := --config otelcol-config.yaml $(foreach to,$(TO),--config otelcol-$(to).yaml)

.PHONY: run
run: build ## Build, then run with otelcol-config.yaml, by sudo if need be. TO=jaeger sends to Jaeger, too.
	@[ -e /sys/kernel/btf/vmlinux ] || echo "This kernel has no BTF (/sys/kernel/btf/vmlinux), so eBPF will be refused. What works without: make demo" >&2
	@[ -z "$(SUDO)" ] || command -v sudo >/dev/null || \
		{ echo "eBPF needs root, and there is no sudo here: run this as root. What works without: make test, make demo" >&2; exit 1; }
	$(SUDO) $(BINARY) $(CONFIGS)

# The pipelines are those of make run.
.PHONY: demo
demo: build ## Build, then run with simulated events: needs no privileges, no Linux and no cluster. TO=jaeger as above.
	$(BINARY) $(CONFIGS) --config 'yaml:receivers::tapioebpf::source: simulator'

# Or podman, or buildah.
CONTAINER_TOOL ?= docker
IMAGE          ?= otelcol-tapio:$(shell sed -n 's/^  version: //p' builder-config.yaml)

.PHONY: image
image: ## Build the container image IMAGE with CONTAINER_TOOL (docker, podman, buildah).
	$(CONTAINER_TOOL) build -f deploy/Dockerfile --build-arg VERSION='$(VERSION)' --build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null) -t $(IMAGE) .

.PHONY: jaeger
jaeger: ## Build Jaeger (once, some minutes) and run it until Ctrl-C: its API on localhost:16686, OTLP on localhost:4317.
	@go run ./test/jaeger/cmd/jaeger

.PHONY: test
# Vetted as it is tested: what is compiled for the race detector is compiled once. What takes longest begins first.
test: ## Vet and test. TESTFLAGS adds flags, as in: make test TESTFLAGS=-race
	go vet $(filter -race,$(TESTFLAGS)) ./...
	go test $(TESTFLAGS) ./test/e2e ./...

.PHONY: test-kernels
# -count=1: what is tested there is not in the key of Go's cache.
test-kernels: ## Test on several kernels in QEMU.
	TAPIO_KERNELS=1 go test ./test/kernels -run TestKernels -count=1 -timeout 60m $(TESTFLAGS)

# All of it, or a part, as CI has a step for each: make test-kubernetes KUBERNETES_TESTS=Deploy KUBERNETES_IN=./test/kubernetes
KUBERNETES_TESTS = Kubernetes|Node|Agent|Gateway|GatewayManifests|Manifests|Components|Operator|Deploy
KUBERNETES_IN    = ./receiver/tapioebpfreceiver ./receiver/tapioebpfreceiver/internal/identity/kube ./test/kubernetes

.PHONY: test-kubernetes
# One package at a time: each has a cluster of its own.
test-kubernetes: ## Test with real Kubernetes, as root: an API server, and a node. Needs bin/otelcol-tapio (make build).
	TAPIO_KUBERNETES=1 go test $(KUBERNETES_IN) -run 'Test($(KUBERNETES_TESTS))$$' -p 1 -count=1 -timeout 40m $(TESTFLAGS)

.PHONY: test-jaeger
test-jaeger: ## Test what a real Jaeger shows, as root. Needs bin/otelcol-tapio (make build).
	TAPIO_JAEGER=1 go test ./test/jaeger -count=1 -timeout 30m $(TESTFLAGS)

.PHONY: test-prometheus
test-prometheus: ## Test rules and dashboard with a real Prometheus, as root. Needs bin/otelcol-tapio (make build).
	TAPIO_PROMETHEUS=1 TAPIO_REQUIRE_BPF=1 go test ./test/prometheus -count=1 -timeout 20m $(TESTFLAGS)

.PHONY: test-overload
test-overload: ## Test with more load than CI has time for, as root. Needs bin/otelcol-tapio (make build).
	TAPIO_OVERLOAD=1 TAPIO_REQUIRE_BPF=1 go test ./test/e2e -run '^Test(ManySockets|ForkBomb|QueueOnDisk)$$' -count=1 -v -timeout 30m $(TESTFLAGS)

.PHONY: compare
compare: build ## Run simulator and kernel side by side, as root, and report what differs. Fails where it may not.
	@TAPIO_COMPARE=1 TAPIO_REQUIRE_BPF=1 go test ./test/e2e -run '^TestCompare$$' -count=1 -v

# The modules that are in the binary, by what it says itself. Its path is no name for this module, which was built from here.
RELEASE = $(shell sed -n 's/^  version: //p' builder-config.yaml)
SBOM    ?= $(BINARY).cdx.json
MODULE  := $(shell sed -n 's/^module //p' go.mod)

.PHONY: sbom
sbom: ## Write bin/otelcol-tapio.cdx.json (CycloneDX): what bin/otelcol-tapio (make build) is made of.
	$(SUPPLY_TOOL) cyclonedx-gomod bin -json -std -noserial -notimestamp -version 'v$(VERSION)' -output $(SBOM).tmp $(BINARY)
	sed -e 's|golang/\.\.@(devel)|golang/$(MODULE)@v$(RELEASE)|' -e 's|"name": "\.\."|"name": "$(MODULE)"|' \
		-e 's|"version": "(devel)"|"version": "v$(RELEASE)"|' $(SBOM).tmp >$(SBOM)
	rm $(SBOM).tmp

NOTICES ?= $(BINARY).notices.txt

.PHONY: licenses
licenses: ## Check the licences of what bin/otelcol-tapio (make build) is made of, and write bin/otelcol-tapio.notices.txt.
	cd $(SUPPLYCHAIN) && GOOS= GOARCH= GOWORK=off go run ./licenses -sources $(CURDIR)/distribution -notices $(abspath $(NOTICES)) $(abspath $(BINARY))

# https, or file:// and the path of a copy.
VULNDB ?= https://vuln.go.dev

.PHONY: vulncheck
# By packages: to follow all calls takes minutes.
vulncheck: ## Look for known vulnerabilities in what make build has built last, by Go's database (VULNDB).
	$(SUPPLY_TOOL) govulncheck -db $(VULNDB) -scan package -C distribution .

.PHONY: bench
# TAPIO_BENCH_ROUNDS=3 takes less time, and TAPIO_BENCH_WORKLOADS=http,bulk is a part of it.
bench: build ## Print what the collector costs, as root: throughput of applications with and without, eBPF, CPU, memory.
	@TAPIO_BENCH=1 TAPIO_REQUIRE_BPF=1 go test ./test/e2e -run '^TestCost$$' -count=1 -v -timeout 60m

.PHONY: bench-http
bench-http: ## The same of HTTP alone: nginx and wrk.
	@TAPIO_BENCH_WORKLOADS=http $(MAKE) bench

.PHONY: bench-go
bench-go: ## Run the benchmarks of Go. BENCHFLAGS adds flags.
	go test -run '^$$' -bench . -benchmem $(BENCHFLAGS) ./...

.PHONY: bench-pipeline
bench-pipeline: build ## Measure what one CPU can take of simulated events: to an exporter that does nothing, and as OTLP.
	TAPIO_BENCH=1 go test ./test/e2e -run TestPipelineLoad -count=1 -v

.PHONY: bench-gateway
bench-gateway: build ## Measure what a span costs a gateway's routers and samplers, and Jaeger, as root: CPU time, memory, disk.
	TAPIO_BENCH=1 go test ./test/jaeger -run 'Test(Gateway|Jaeger)Load' -count=1 -v

.PHONY: generate
generate: ## Compile the eBPF programs and run mdatagen.
	@for tool in $(CLANG) $(LLVM_STRIP); do \
		command -v $$tool >/dev/null || \
			{ echo "$$tool is missing. Run: apt-get install clang-19 llvm-19 libbpf-dev" >&2; exit 1; }; \
	done
	BPF2GO_CC=$(CLANG) BPF2GO_STRIP=$(LLVM_STRIP) go generate ./bpf
	$(foreach m,$(METADATA),cd $(CURDIR)/$(dir $m) && $(TOOL) mdatagen metadata.yaml &&) true

.PHONY: check-generated
check-generated: generate ## Fail if a generated file in git is not what make generate writes.
	@git --no-pager diff --exit-code -- $(GENERATED) && \
		[ -z "$$(git ls-files --others --exclude-standard -- $(GENERATED) | tee /dev/stderr)" ] || \
		{ echo "Generated files differ from git. Run: make generate, then git add the files above" >&2; exit 1; }

.PHONY: fmt
fmt: ## Format Go and C.
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')
	$(CLANG_FORMAT) -i $$(git ls-files -co --exclude-standard '*.[ch]')

.PHONY: lint
lint: ## Lint Go and C.
	go run $(GOLANGCI) run ./...
	$(CLANG_FORMAT) --dry-run -Werror $$(git ls-files -co --exclude-standard '*.[ch]')

.PHONY: clean
clean: ## Remove what make build wrote.
	rm -rf bin distribution/*.go distribution/otelcol-tapio*
