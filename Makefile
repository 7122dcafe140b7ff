# Build, try and check secgossip. `make help` lists what there is to do.
#
# On a fresh machine with Go, git and make, `make demo` and `make test` work.
# `make check` is everything a change must pass; it also needs a C compiler, for
# the race detector.

.DEFAULT_GOAL := help
# One thing after the other: what is printed then belongs together.
.NOTPARALLEL:

# The version in the binary. It is written here, not read from git, so that a
# source archive builds the same bytes as a clone.
VERSION := 0.1.0-dev

GO       ?= go
FUZZTIME ?= 10s
# How many random histories `make histories` lives through.
HISTORIES ?= 40
# How many nodes the largest cluster of `make figures` has.
CROWD ?= 1000
# Added to `go test`, as in: make test TESTFLAGS='-run Replay -v'
TESTFLAGS  ?=
BENCHFLAGS ?= -benchmem

# No git revision goes into a binary, not even into one of `go run`.
export GOFLAGS += -buildvcs=false

# A static binary without anything of this machine: no paths, no build id.
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -buildid= -X main.version=$(VERSION)'

# The modules that are checked for tidiness. tools/buf is not: to check it takes
# half a gigabyte of modules, and nothing but `make generate` uses it.
MODULES := $(dir $(wildcard go.mod */go.mod))

# Where the program must at least compile. Linux comes first; the others do
# without the handler sandbox.
PLATFORMS := linux/arm64 darwin/arm64 freebsd/amd64 windows/amd64

##@ To use it

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: build ## Watch three agents, one event, five refusals and a rotation
	$(GO) run ./internal/demo -bin bin/secgossip

.PHONY: build
build: ## Build bin/secgossip, a static binary
	$(BUILD) -o bin/secgossip ./cmd/secgossip

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin

##@ To change it

# The package that takes longest, on one processor, begins first: the others go beside it.
.PHONY: test
test: ## Run all tests
	$(GO) test -timeout 20m $(TESTFLAGS) ./secgossip ./...
	@echo "tests passed in $$($(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}x{{end}}' ./... | grep -c x) packages"

.PHONY: bench
bench: ## Run all benchmarks
	$(GO) test -run '^$$' -bench . $(BENCHFLAGS) ./...

# Choose one with, say, BENCHFLAGS='-bench Flood'. The flag that comes last counts.
.PHONY: siege
siege: ## Measure real agents under attack (also in bench)
	$(GO) test -run '^$$' -bench . -benchtime 1x $(BENCHFLAGS) ./internal/siege

.PHONY: rotations
rotations: ## Measure rotations of 3 and 30 real agents (also in bench)
	$(GO) test -run '^$$' -bench . -benchtime 1x $(BENCHFLAGS) ./internal/epochs

# A thousand nodes in one process take half an hour and 12 GB. With fewer:
# make figures CROWD=200
.PHONY: figures
figures: ## Count and time events on 3 to 1,000 nodes in virtual time
	@GOGC=40 $(GO) test -timeout 3h -run '^TestFigures$$' -v ./secgossip -figures -crowd $(CROWD) | awk '/^=== / { next } \
		/^ *(--- )?FAIL|^panic:/ { bad = 1 } /^ok / { ok = 1 } { print } END { exit bad || !ok }'

# It builds Serf's program too, and takes some seventeen minutes. Of some parts alone:
# make versus PARTS=kills,seal
.PHONY: versus
versus: build ## Measure 3, 10 and 30 agents beside as many of Serf's
	cd bench && $(GO) run . -bin ../bin/secgossip $(if $(PARTS),-parts $(PARTS))

# `go test -list` prints the targets of a package and then a line with its name.
.PHONY: fuzz
fuzz: ## Fuzz every parser for FUZZTIME each (default 10s)
	@set -e; \
	list=$$($(GO) test -list '^Fuzz' ./...); \
	targets=$$(echo "$$list" | awk '/^Fuzz/ { found[n++] = $$1 } \
		/^ok/ { for (i = 0; i < n; i++) print $$2, found[i]; n = 0 }'); \
	test -n "$$targets" || { echo "no fuzz targets found"; exit 1; }; \
	echo "$$targets" | while read -r package target; do \
		echo "fuzzing $$target of $$package for $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package"; \
	done

.PHONY: generate
generate: ## Generate the RPC code from api/ again
	$(GO) generate ./...

##@ To hand it in

.PHONY: check
check: fmt vet lint imports tidy race histories secretmemory fuzzseeds platforms reproducible ## Run everything a change must pass
	@echo "check passed"

.PHONY: fmt
fmt: ## All files are formatted
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }

.PHONY: vet
vet: ## go vet finds nothing
	$(GO) vet ./...
	cd bench && $(GO) vet ./...

.PHONY: lint
lint: ## staticcheck finds nothing
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

.PHONY: imports
imports: ## The source tree keeps to its layout
	$(GO) test ./internal/arch

.PHONY: tidy
tidy: ## go.mod and go.sum say what the code needs, and the cache is genuine
	@set -e; for module in $(MODULES); do \
		echo "$(GO) mod tidy -diff in $$module"; \
		(cd "$$module" && $(GO) mod tidy -diff); \
	done
	$(GO) mod verify

.PHONY: race
race: ## All tests pass with the race detector
	$(MAKE) --no-print-directory test TESTFLAGS='-race $(TESTFLAGS)'

# The experiment does not go with the race detector. With it the standard library is
# compiled once more. The last line builds the program with it, too.
# Each runs 90 s of virtual time and some 2 s of a processor. More of them, say:
# make histories HISTORIES=300
.PHONY: histories
histories: ## Random faults while epochs change: one epoch 10 s later
	@$(GO) test -timeout 1h -run RandomHistories -v ./secgossip -histories $(HISTORIES) | awk '/^=== |^ +--- PASS/ { next } \
		/^ *(--- )?FAIL|^panic:/ { bad = 1 } /^ok / { ok = 1 } { print } END { exit bad || !ok }'

.PHONY: secretmemory
secretmemory: export GOEXPERIMENT := runtimesecret
secretmemory: ## A build that has the runtime erase secrets works, and they are erased
	$(GO) vet ./keyring ./secgossip/internal/seal
	$(GO) test ./keyring ./secgossip/internal/seal
	$(GO) test -run Memory ./internal/epochs

.PHONY: fuzzseeds
fuzzseeds: ## Every fuzz target accepts its seeds
	@$(GO) test -run '^Fuzz' -v ./... | awk '/^--- PASS: Fuzz/ { passed++ } /^(--- )?FAIL|^panic:/ { bad = 1 } \
		!/^(=== | *--- PASS|PASS$$|ok |\? |testing: warning: no tests)/ { print } \
		END { print passed + 0 " fuzz targets accept their seeds"; exit bad || !passed }'

.PHONY: platforms
platforms: ## The program compiles on every platform
	@set -e; for platform in $(PLATFORMS); do \
		echo "go build for $$platform"; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO) build -o /dev/null ./cmd/...; \
	done

# The second build has its own copy of the tree and its own, empty, build cache:
# with a shared one it would mostly compare the first build with itself.
.PHONY: reproducible
reproducible: ## Two builds from two folders are the same bytes
	@set -e; there=$$(mktemp -d); trap 'rm -rf "$$there"' EXIT; \
	mkdir "$$there/copy"; \
	tar -cf - --exclude=./.git --exclude=./bin . | tar -xf - -C "$$there/copy"; \
	$(BUILD) -o "$$there/one" ./cmd/secgossip; \
	(cd "$$there/copy" && GOCACHE="$$there/cache" $(BUILD) -o "$$there/two" ./cmd/secgossip); \
	sha256sum "$$there/one" "$$there/two"; \
	cmp "$$there/one" "$$there/two" && echo "two builds, one hash"
