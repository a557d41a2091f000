# Ringpost. `make deps` installs what is missing, `make` builds build/ringpost, `make test`, `make demo`, `make bench`, `make lint`,
# `make install`. Variables: CC (gcc or clang), PREFIX, DESTDIR, LTO=1.

CC       ?= cc
ifeq ($(origin CC),default)
CC       := gcc
endif
PREFIX   ?= /usr/local
BUILD    ?= build

VERSION  := $(shell sed -n 's/^## \([0-9][0-9.]*\).*/\1/p' CHANGES.md 2>/dev/null | head -n 1)

LIBS     := liburing libcyaml yaml-0.1 libmicrohttpd libxxhash libidn2 jansson libcurl zlib libseccomp wolfssl libcrypto libcrypt
CFLAGS   ?= -O2 -g
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef -Wvla -Wwrite-strings -Werror
HARDEN   := -fstack-protector-strong -fstack-clash-protection -fcf-protection -D_FORTIFY_SOURCE=2 -fPIE
CPPFLAGS += -I. -D_GNU_SOURCE -DRINGPOST_VERSION='"$(VERSION)"' $(shell pkg-config --cflags $(LIBS))
LDFLAGS  += -pie -Wl,-z,relro,-z,now -Wl,--as-needed
LDLIBS   += $(shell pkg-config --libs $(LIBS)) -lldns -lpthread -lm
STD      := -std=gnu11

ifdef LTO
CFLAGS   += -flto=auto
LDFLAGS  += -flto=auto -O2
endif

PARTS    := core net dns queue
SOURCES  := $(sort $(shell find $(PARTS) -name '*.c'))
HEADERS  := $(sort $(shell find $(PARTS) bench tests -name '*.h'))
OBJECTS  := $(SOURCES:%.c=$(BUILD)/obj/%.o)
BENCHES  := $(patsubst bench/%.c,%,$(wildcard bench/*.c))
BENCH_PARTS := $(sort $(wildcard bench/lib/*.c))
UNITS    := $(sort $(shell find tests/unit tests/contract -name 'test_*.c'))
TEST_PARTS := $(sort $(wildcard tests/lib/*.c))
FUZZERS  := $(sort $(wildcard tests/fuzz/fuzz_*.c))

# One short line a step; V=1 shows the commands.
ifeq ($(V),)
QUIET    = @printf '  %-5s %s\n' $(1) $@;
endif

.PHONY: all deps deps-test test sim sim-cuts sim-canaries demo bench million slow-sites kills install lint layers headers form tidy cppcheck scripts format fuzz tsan clean units FORCE
.SECONDARY:

all: $(BUILD)/ringpost $(BENCHES:%=$(BUILD)/bench/%)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call QUIET,CC)$(CC) $(STD) $(CPPFLAGS) $(CFLAGS) $(WARNINGS) $(HARDEN) -MMD -MP -c -o $@ $<

$(BUILD)/libringpost.a: $(OBJECTS)
	@rm -f $@
	$(call QUIET,AR)gcc-ar rcs $@ $^

$(BUILD)/ringpost: $(BUILD)/obj/main.o $(BUILD)/libringpost.a
	$(call QUIET,LINK)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libbench.a: $(BENCH_PARTS:%.c=$(BUILD)/obj/%.o)
	@rm -f $@
	$(call QUIET,AR)gcc-ar rcs $@ $^

$(BUILD)/bench/%: $(BUILD)/obj/bench/%.o $(BUILD)/libbench.a $(BUILD)/libringpost.a
	@mkdir -p $(@D)
	$(call QUIET,LINK)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# What they are held against, or attacked with.
$(BUILD)/bench/tls $(BUILD)/bench/hostile $(BUILD)/unit/unit/net/tls/test_libssl: LDLIBS += -lssl

# ---- tests: everything again with ASan and UBSan ----
SANITIZE := -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
PARALLEL  = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
SANMAKE   = $(MAKE) --no-print-directory $(PARALLEL) BUILD=$(BUILD)/san CFLAGS='$(SANITIZE)' HARDEN=
TEST_LIBS := $(shell pkg-config --libs check 2>/dev/null)

$(BUILD)/unit/%: $(BUILD)/obj/tests/%.o $(TEST_PARTS:%.c=$(BUILD)/obj/%.o) $(BUILD)/libbench.a $(BUILD)/libringpost.a
	@mkdir -p $(@D)
	$(call QUIET,LINK)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(LDLIBS)

# Before the library, whose own door to the kernel is then left out.
SIM_WORLD := $(addprefix tests/sim/,world.c contents.c disk.c names.c net.c io.c)
SIMULATED := contract/test_io_simulated unit/queue/spool/test_adopt
$(SIMULATED:%=$(BUILD)/unit/%): $(BUILD)/unit/%: $(BUILD)/obj/tests/%.o $(SIM_WORLD:%.c=$(BUILD)/obj/%.o) \
    $(TEST_PARTS:%.c=$(BUILD)/obj/%.o) $(BUILD)/libringpost.a
	@mkdir -p $(@D)
	$(call QUIET,LINK)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(LDLIBS)

$(BUILD)/replay/%: $(BUILD)/obj/tests/fuzz/%.o $(BUILD)/obj/tests/fuzz/replay.o $(TEST_PARTS:%.c=$(BUILD)/obj/%.o) $(BUILD)/libbench.a $(BUILD)/libringpost.a
	@mkdir -p $(@D)
	$(call QUIET,LINK)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(LDLIBS)

units: $(UNITS:tests/%.c=$(BUILD)/unit/%) $(FUZZERS:tests/fuzz/%.c=$(BUILD)/replay/%)

# `make test` runs all; `make test ONLY=unit/core` runs what has that in its name.
test: all
	@$(SANMAKE) units $(BUILD)/san/ringpost
	@tests/run.py --build $(BUILD) $(if $(ONLY),--only $(ONLY))

# One test program alone, with sanitizers: make build/san/unit/unit/core/test_map && $_
$(BUILD)/san/%: FORCE
	@$(SANMAKE) $@
$(BUILD)/san/%.d: ; # read by make itself, not to be remade
FORCE:

# ---- fuzzing with libFuzzer: make fuzz; FUZZ_SECONDS each ----
FUZZ_SECONDS ?= 60
FUZZMAKE := $(MAKE) --no-print-directory BUILD=$(BUILD)/fuzzing CC=clang HARDEN= \
            CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all'
$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(TEST_PARTS:%.c=$(BUILD)/obj/%.o) $(BUILD)/libbench.a $(BUILD)/libringpost.a
	@mkdir -p $(@D)
	$(call QUIET,LINK)$(CC) $(CFLAGS) -fsanitize=fuzzer $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(LDLIBS)
fuzz:
	@tests/fuzz/run.sh "$(FUZZMAKE)" $(BUILD)/fuzzing $(FUZZ_SECONDS) $(patsubst tests/fuzz/%.c,%,$(FUZZERS))

# ---- make demo: 100,000 messages through it; make bench: against the floor, Postfix, OpenSMTPD. Options: bench/demo.py --help, bench/run.py --help ----
demo: all
	@bench/demo.py --build $(BUILD) $(DEMO)
bench: all
	@bench/run.py --build $(BUILD) --out bench/RESULTS.md $(BENCH)

# ---- what takes long: make million MILLION='--messages 20000'; make slow-sites SLOW='--rounds 9'; make kills ROUNDS=200 ----
million: all
	@bench/million.py --build $(BUILD) $(MILLION)
slow-sites: all
	@bench/run.py --build $(BUILD) --workloads f $(SLOW)
ROUNDS   ?= 200
kills: all
	@RINGPOST_BUILD=$(abspath $(BUILD)) RINGPOST_BINARY=$(abspath $(BUILD))/ringpost PYTHONPATH=tests/lib \
	  RINGPOST_KILL_ROUNDS=$(ROUNDS) RINGPOST_TEST_LIMIT=$$((400 + 20 * $(ROUNDS))) python3 tests/crash/test_kill.py

# ---- the simulator: the whole relay in a simulated world (tests/sim/run.c). SEEDS=FROM-TO ----
SIM_PARTS := $(sort $(wildcard tests/sim/*.c))
SEEDS    ?= 1-1000
# What is done by tests/sim/system.c and settings.c instead.
SIM_WRAPPED := sem_wait sem_post pthread_mutex_lock system_read_file system_write_file system_wall_ms conf_read
SIM_LDFLAGS := $(LDFLAGS) $(SIM_WRAPPED:%=-Wl,--wrap=%)
$(BUILD)/sim: $(SIM_PARTS:%.c=$(BUILD)/obj/%.o) $(TEST_PARTS:%.c=$(BUILD)/obj/%.o) $(BUILD)/libbench.a $(BUILD)/libringpost.a
	$(call QUIET,LINK)$(CC) $(CFLAGS) $(SIM_LDFLAGS) -o $@ $^ $(TEST_LIBS) $(LDLIBS)
# Each seed is a process: what it frees stays with it, and it is not given its memory page by page.
SIM_MALLOC := GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=67108864:glibc.malloc.trim_threshold=536870912:glibc.malloc.top_pad=16777216
sim: $(BUILD)/sim
	@$(SIM_MALLOC) $(BUILD)/sim --seeds $(SEEDS) --jobs $$(nproc)
# The power is cut at every sync of these seeds, one after the other.
CUTS     ?= 1-2
sim-cuts: $(BUILD)/sim
	@$(SIM_MALLOC) $(BUILD)/sim --seeds $(CUTS) --cuts
sim-canaries: $(BUILD)/sim
	@tests/sim/canaries.sh $(BUILD) '$(CC) $(STD) $(CPPFLAGS) $(CFLAGS) $(HARDEN)' \
	  '$(SIM_PARTS:%.c=$(BUILD)/obj/%.o) $(TEST_PARTS:%.c=$(BUILD)/obj/%.o) $(BUILD)/libbench.a $(BUILD)/libringpost.a $(SIM_LDFLAGS) $(TEST_LIBS) $(LDLIBS)'

# ---- a writer of spools to be kept, for what no image in tests/golden has yet ----
$(BUILD)/golden: $(BUILD)/obj/tests/golden/write.o $(BUILD)/libringpost.a
	$(call QUIET,LINK)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# ---- what needs threads that race: with ThreadSanitizer ----
TSAN_UNITS := $(filter %/test_spsc.c %/test_mailbox.c %/test_errand.c %/test_message.c %/test_worker.c %/test_guard.c %/test_verify.c %/test_sts.c %/test_tlsrpt.c %/test_directory.c %/tls/test_threads.c,$(UNITS))
TSANMAKE = $(MAKE) --no-print-directory $(PARALLEL) BUILD=$(BUILD)/tsan HARDEN= CFLAGS='-O1 -g1 -fno-omit-frame-pointer -fsanitize=thread'
tsan:
	@$(TSANMAKE) $(TSAN_UNITS:tests/%.c=$(BUILD)/tsan/unit/%)
	@for test in $(TSAN_UNITS:tests/%.c=$(BUILD)/tsan/unit/%); do TSAN_OPTIONS=halt_on_error=1 $$test || exit 1; done

# ---- lint: fails on any finding. Of tests and benches only form, headers and layers: Check's macros are not ours ----
FORMATTED := $(sort $(wildcard main.c) $(SOURCES) $(HEADERS) $(shell find bench tests -name '*.c' 2>/dev/null))
LINTED    := $(sort $(wildcard main.c) $(SOURCES))
lint: layers headers form tidy cppcheck scripts
	@echo lint: clean

# `make format` makes it so.
form:
	@clang-format --dry-run -Werror $(FORMATTED)

# How far the analyzer follows a function's ways: its own limit, which is seven times slower than 30000.
ANALYZER_NODES ?= 225000
tidy:
	@mkdir -p $(BUILD)/lint
	@printf '%s\n' $(STD) -I$(CURDIR) $(CPPFLAGS) >$(BUILD)/lint/compile_flags.txt
	@printf '%s\n' $(LINTED) | xargs -P $$(nproc) -n 8 clang-tidy -p $(BUILD)/lint --quiet \
	  $(patsubst %,--extra-arg=-Xclang --extra-arg=%,-analyzer-config max-nodes=$(ANALYZER_NODES)) 2>$(BUILD)/lint/tidy.log

# missingReturn: cppcheck does not see that must(false) does not return; gcc's -Wreturn-type does.
cppcheck:
	@cppcheck -q -j $$(nproc) --std=c11 -I. -D__linux__ --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	  --suppress=missingIncludeSystem --suppress=missingReturn $(LINTED)

scripts:
	@! command -v shellcheck >/dev/null || shellcheck $$(grep -lE '^#!.*sh$$' .ci/* $$(find tests dist bench -name '*.sh'))

# Arrows run down only.
layers:
	@tests/lint/layers.py --self-test

# A header compiles alone.
headers:
	@printf '%s\n' $(HEADERS) | xargs -P $$(nproc) -I HEADER $(CC) $(STD) $(CPPFLAGS) $(WARNINGS) -fsyntax-only -x c HEADER

format:
	clang-format -i $(FORMATTED)

# ---- what the distribution has to give ----
deps:
	@.ci/deps build
deps-test: deps
	@.ci/deps test
	$(if $(wildcard tests/lib/get-peers.sh),@tests/lib/get-peers.sh $(BUILD))

# ---- installation: the program, manual pages, the example configuration ----
MANUALS := $(wildcard docs/*.[1-8])
UNITFILES := $(wildcard dist/*.service)
install: $(BUILD)/ringpost
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/share/doc/ringpost
	install -m 755 $(BUILD)/ringpost $(DESTDIR)$(PREFIX)/sbin/ringpost
	install -m 644 dist/ringpost.yaml $(DESTDIR)$(PREFIX)/share/doc/ringpost/ringpost.yaml
	$(foreach page,$(MANUALS),install -D -m 644 $(page) $(DESTDIR)$(PREFIX)/share/man/man$(subst .,,$(suffix $(page)))/$(notdir $(page));)
	$(foreach unit,$(UNITFILES),install -D -m 644 $(unit) $(DESTDIR)$(PREFIX)/lib/systemd/system/$(notdir $(unit));)

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
