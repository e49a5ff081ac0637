# A thin front door: everything is done by Meson and the scripts named here. `make help` lists the targets.
BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
MESON_ARGS ?=

.PHONY: all demo test check conformance install uninstall format check-format tidy asan tsan setup clean help

all: $(BUILD)/build.ninja ## build build/fermata and its plug-ins (default)
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	tools/setup --no-models
	meson setup $(BUILD) $(MESON_ARGS)

setup: ## install what is missing, with the developer tools
	tools/setup --dev

demo: ## from nothing to text read from real pages
	./demo.sh

test: ## everything that is checked
	./test.sh

check: all ## all tests of this build folder
	meson test -C $(BUILD) --print-errorlogs

check-%: all ## one kind: check-unit, check-prop, check-fuzz, check-fault, check-conformance, check-e2e, check-tidy
	meson test -C $(BUILD) --print-errorlogs --suite $*

conformance: ## NVIDIA's clients and perf_analyzer, from PyPI, against this build; writes docs/conformance.md
	tools/conformance --build $(BUILD)

asan: ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	test -f build-asan/build.ninja || meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false -Dslow_tests=false
	meson test -C build-asan --print-errorlogs --no-suite tidy

tsan: ## the tests under ThreadSanitizer
	test -f build-tsan/build.ninja || meson setup build-tsan -Db_sanitize=thread -Db_lundef=false -Dslow_tests=false
	meson test -C build-tsan --print-errorlogs --no-suite tidy

install: $(BUILD)/build.ninja ## install below PREFIX (default /usr/local), staged below DESTDIR
	meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX))
	ninja -C $(BUILD)
	DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild --quiet

uninstall: ## remove what install put there
	ninja -C $(BUILD) uninstall

format: ## lay out the C files with clang-format
	tools/format

check-format: ## say which C files clang-format would change
	tools/format --check

tidy: $(BUILD)/build.ninja ## clang-tidy over the product's sources, findings are errors
	tools/tidy $(BUILD)

clean: ## remove the build folders; .deps and the download cache stay
	rm -rf $(BUILD) build-test build-asan build-tsan

help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
