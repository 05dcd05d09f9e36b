# What each target does stands in the line above it. All of them need Go and nothing else, but for
# "make test", whose race detector needs a C compiler, and "make windows".

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 30s
BENCH    ?= .
SEEDS    ?= 300
SEED     ?= 0
TIMES    ?= 1
KIND     ?= all
SIZES    ?= 3,10,30,100

.DEFAULT_GOAL := build
.PHONY: build run test format vet lint race windows release bench simulate fuzz

# bin/peerstate.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/peerstate

# Two sites on this machine, a session stored through one and read through the other; until Ctrl-C.
run: build
	@CGO_ENABLED=0 $(GO) build -o bin/ ./examples/two-sites
	@exec bin/two-sites

# Everything that must pass.
test: format vet lint race

format:
	@unformatted="$$(gofmt -l .)"; if [ -n "$$unformatted" ]; then \
		echo "not formatted (gofmt -w mends it):"; echo "$$unformatted"; exit 1; fi

vet:
	@for os in linux windows darwin; do \
		echo "GOOS=$$os $(GO) vet ./..."; CGO_ENABLED=0 GOOS=$$os $(GO) vet ./... || exit 1; done

lint:
	$(GO) tool staticcheck ./...

# The two packages that take longest begin at once, and the others run beside them. Without GORACE each program waits a second
# before it ends, and the tests run some hundreds.
race:
	@command -v $$($(GO) env CC) >/dev/null || { \
		echo "The tests run with the race detector, which needs a C compiler, and there is no $$($(GO) env CC) here."; \
		echo "Install one (Debian: apt-get install gcc libc6-dev) and try again."; exit 1; }
	CGO_ENABLED=1 GORACE="atexit_sleep_ms=0 $$GORACE" $(GO) test -race -count=1 -timeout 20m ./transport ./cmd/peerstate/e2e ./...

# bin/peerstate.exe, and the tests as Windows programs, as far as Wine takes them (see cmd/peerstate/e2e/wine). Needs Wine and a
# C compiler for Windows (Debian: apt-get install wine64 gcc-mingw-w64-x86-64); without them it says so, and only builds.
windows:
	CGO_ENABLED=0 GOOS=windows GOARCH=amd64 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/peerstate.exe ./cmd/peerstate
	@GO='$(GO)' cmd/peerstate/e2e/wine/run

# Archives for all systems in bin/release, with checksums and the lists of modules (SBOM). Whoever builds the same
# commit with the same Go gets the same bytes.
release:
	@$(GO) run ./cmd/release -out bin/release

# The benchmarks; BENCH= chooses some by a regular expression.
bench:
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 60m ./...

# Farms in virtual time whose nodes stop, crash and lose each other: SEEDS schedules of each kind, from seed SEED (0: by
# chance), each TIMES times; KIND=stops, crashes, journals or splits runs one kind, and NOTE=-test.v says more of those that
# fail. A seed repeats the plan, the fate of each packet and what the nodes draw by chance, but not in which order Go runs
# what becomes ready at the same moment: some two thirds of the runs of one seed are the same, more with
# GOMAXPROCS=1, and with TIMES above 1 it says how many were. With all kinds, a table of what farms of SIZES nodes cost in packets and bytes, too (100 nodes take a minute).
simulate:
	CGO_ENABLED=1 $(GO) test -race -c -o bin/simulate.test ./transport
	@cd transport && ../bin/simulate.test $(NOTE) -test.timeout 0 -test.run 'ScheduleOf' \
		-simulate.kind=$(KIND) -simulate.seeds=$(SEEDS) -simulate.first=$(SEED) -simulate.times=$(TIMES)
	@if [ '$(KIND)' = all ]; then \
		CGO_ENABLED=0 $(GO) test -c -o bin/cost.test ./transport && cd transport && \
		../bin/cost.test -test.timeout 0 -test.run '^TestCostByFarmSize$$' -simulate.cost=$(SIZES); fi

# Every fuzz target there is, each for FUZZTIME.
fuzz:
	@for pkg in $$($(GO) list ./...); do \
		found="$$($(GO) test -list '^Fuzz' $$pkg)" || { echo "$$found"; exit 1; }; \
		for target in $$(echo "$$found" | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
		done; \
	done
