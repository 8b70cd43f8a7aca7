# The two commands of the README are run and test; check is the quick half.
SHELL := /bin/bash
# libopus stands alone: hraban/opus would ask for libopusfile without this tag.
export GOFLAGS := -tags=nolibopusfile
# One file to install: libopus goes into the binary. Asked when it is needed: build-tools may only just have installed it.
OPUS = $(shell pkg-config --variable=libdir opus 2>/dev/null)/libopus.a
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
GO_SOURCES := $(shell git ls-files -co --exclude-standard '*.go' 'web/page/*' 'internal/demo/prompts/*' 'internal/admin/*.json' 2>/dev/null)

# The linter is a tool, not a part: it stays out of go.mod.
LINTER := golangci-lint-v2.15.0
# So is the authority that the tests ask for certificates.
AUTHORITY := pebble-v2.10.1

.PHONY: run test check lint bench sound lab soak build build-tools test-tools fuzz

run: build
	@bin/sipbridge demo

build: bin/sipbridge

bin/sipbridge: go.mod $(GO_SOURCES) | build-tools
	CGO_LDFLAGS="$(OPUS) -lm -Wl,--as-needed" go build -trimpath -buildvcs=false -o $@ ./cmd/sipbridge

# What the build needs beyond make, Go and Node.
build-tools:
	@scripts/install git gcc libc6-dev pkg-config libopus-dev

# What the tests need beside it: phones, a proxy, a browser.
test-tools: build-tools bin/line bin/phone bin/$(AUTHORITY)
	@scripts/install chromium firefox-esr sip-tester baresip-core linphone-cli kamailio kamailio-tls-modules openssl libnss3-tools tinyproxy coturn nftables ffmpeg sox espeak-ng dnsmasq-base iproute2 curl procps util-linux
	@cd interop-tests && { [ node_modules/.package-lock.json -nt package-lock.json ] || { \
	  echo "installing from npm: playwright-core and puppeteer-core (they drive the browsers), axe-core (it looks for barriers)"; \
	  npm ci --no-audit --no-fund --ignore-scripts; }; }

# The line that loses packets and the telephone's sound at its end.
bin/line bin/phone: go.mod $(GO_SOURCES) | build-tools
	CGO_LDFLAGS="$(OPUS) -lm -Wl,--as-needed" go build -trimpath -buildvcs=false -o $@ ./interop-tests/lab/$(@F)

test: test-tools build
	$(MAKE) check
	go test -count=1 ./...
	cd interop-tests && node --test --test-concurrency=1 --test-timeout=600000 */*.test.mjs

check: build-tools
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "gofmt the files above"; exit 1; }
	go mod tidy -diff
	$(MAKE) lint
	go test -race ./...
	node scripts/switched-off.mjs
	$(MAKE) fuzz

# .golangci.yml names the linters, go vet among them, and why. No test loads the scripts of
# bench, lab, sound and soak: here they are at least read.
lint: build-tools bin/$(LINTER)
	bin/$(LINTER) run ./...
	@set -e; for f in $$(git ls-files '*.mjs' '*.js'); do node --check $$f; done

bin/$(LINTER):
	GOFLAGS= GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTER:golangci-lint-%=%)
	mv bin/golangci-lint $@

bin/$(AUTHORITY):
	GOFLAGS= GOBIN=$(CURDIR)/bin go install github.com/letsencrypt/pebble/v2/cmd/pebble@$(AUTHORITY:pebble-%=%)
	mv bin/pebble $@

# So many runs of each fuzzer; a time would end some of them in "deadline exceeded".
FUZZTIME ?= 200000x
fuzz: build-tools
	@set -eo pipefail; for f in $$(git grep -lE '^func Fuzz' -- '*_test.go'); do \
	  for n in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' $$f); do \
	    echo "fuzz $$n in $$(dirname $$f)"; go test -run '^$$' -fuzz "^$$n\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$f) | tail -n 2; done; done

# Speech over bad lines, beside Chromium alone and rtpengine; writes docs/sound.md.
sound: test-tools build
	@scripts/install rtpengine-daemon
	node interop-tests/sound/intelligibility.mjs

# Every hospital network against every home network, LAB_CALLS calls each; writes docs/networks.md.
lab: test-tools build
	node interop-tests/lab/matrix.mjs

# Hours of calls, SOAK_HOURS of them; ends with what was left behind.
soak: test-tools build
	node interop-tests/load/soak.mjs

bench: test-tools build
	@scripts/install rtpengine-daemon
	go test -run '^$$' -bench . -benchmem ./internal/media ./internal/transcode ./internal/policy
	node interop-tests/load/bench.mjs
	node interop-tests/load/signalling.mjs
