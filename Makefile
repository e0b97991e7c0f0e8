# Vireo. `make help` says what there is.
BUILD ?= build
PYTHON ?= python3

.PHONY: help deps build check check-fast check-cluster image bench demo demo-down soak clean
help:
	@echo "make demo        install what it needs, build, start a VM from a manifest, show its console"
	@echo "make demo-down   end it and leave nothing behind"
	@echo "make deps        install what building and running needs (Debian packages)"
	@echo "make build       $(BUILD)/vireo, vireo-launcher, vireo-fetch, virtctl"
	@echo "make check       all tests (root); make check-fast: the quick ones"
	@echo "make check-cluster   its part on a real Kubernetes, which it builds if need be (10 minutes once)"
	@echo "make image       container images for a cluster: $(BUILD)/vireo.tar, $(BUILD)/launcher.tar"
	@echo "make bench       the numbers of docs/benchmarks.md"
	@echo "make soak        long fuzz and fault runs"

deps:
	@tools/deps build run

$(BUILD)/build.ninja: meson.build
	@meson setup $(BUILD) --buildtype=release -Dstrip=true >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }; rm -f $(BUILD).log

build: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet binaries
	@cd $(BUILD) && for b in vireo vireo-launcher vireo-fetch virtctl container-disk; do [ ! -e src/cmd/$$b ] || ln -sfn src/cmd/$$b $$b; done

check:
	@tools/check all
check-fast:
	@tools/check fast
check-cluster: build
	@test/cluster/build
	@test/cluster/run --all --build $(BUILD)
image: build
	@tools/deps run image
	@deploy/image vireo $(BUILD)/vireo.tar $(BUILD)
	@deploy/image launcher $(BUILD)/launcher.tar $(BUILD)
soak:
	@tools/check soak
bench: build
	@tools/bench
demo:
	@tools/demo up
demo-down:
	@tools/demo down
clean:
	rm -rf $(BUILD) build-*
