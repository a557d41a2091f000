# Ringpost. `make deps` installs what is missing, `make` builds build/ringpost, `make test`, `make demo`, `make bench`, `make lint`,
# `make install`. Variables: CC (gcc or clang), PREFIX, DESTDIR, SAN=1 (ASan and UBSan), LTO=1.

CC       ?= cc
ifeq ($(origin CC),default)
CC       := gcc
endif
PREFIX   ?= /usr/local
BUILD    ?= build

VERSION  := $(shell sed -n 's/^## \([0-9][0-9.]*\).*/\1/p' CHANGES.md 2>/dev/null | head -n 1)

LIBS     := liburing libcyaml yaml-0.1 libmicrohttpd libxxhash libidn2
CFLAGS   ?= -O2 -g
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef -Wvla -Wwrite-strings -Werror
HARDEN   := -fstack-protector-strong -fstack-clash-protection -fcf-protection -D_FORTIFY_SOURCE=2 -fPIE
CPPFLAGS += -I. -D_GNU_SOURCE -DRINGPOST_VERSION='"$(VERSION)"' $(shell pkg-config --cflags $(LIBS))
LDFLAGS  += -pie -Wl,-z,relro,-z,now
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

.PHONY: all deps deps-test test demo bench install lint layers format fuzz clean units FORCE
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

# ---- tests: everything again with ASan and UBSan ----
SANITIZE := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
SANMAKE  := $(MAKE) --no-print-directory BUILD=$(BUILD)/san CFLAGS='$(SANITIZE)' HARDEN=
TEST_LIBS := $(shell pkg-config --libs check 2>/dev/null)

$(BUILD)/unit/%: $(BUILD)/obj/tests/%.o $(TEST_PARTS:%.c=$(BUILD)/obj/%.o) $(BUILD)/libbench.a $(BUILD)/libringpost.a
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

# ---- fuzzing with libFuzzer: make fuzz, or make build/fuzz/fuzz_NAME; FUZZ_SECONDS each ----
FUZZ_SECONDS ?= 60
FUZZMAKE := $(MAKE) --no-print-directory BUILD=$(BUILD)/fuzzing CC=clang HARDEN= \
            CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all'
$(BUILD)/fuzzing/fuzz/%: $(BUILD)/fuzzing/obj/tests/fuzz/%.o $(TEST_PARTS:%.c=$(BUILD)/fuzzing/obj/%.o) $(BUILD)/fuzzing/libbench.a $(BUILD)/fuzzing/libringpost.a
	@mkdir -p $(@D)
	clang $(CFLAGS) -fsanitize=fuzzer $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(LDLIBS)
fuzz:
	@tests/fuzz/run.sh '$(FUZZMAKE)' $(BUILD)/fuzzing $(FUZZ_SECONDS) $(patsubst tests/fuzz/%.c,%,$(FUZZERS))

# ---- make demo: 100,000 messages through it; make bench: against the floor, Postfix, OpenSMTPD. Options: bench/demo.py --help, bench/run.py --help ----
demo: all
	@bench/demo.py --build $(BUILD) $(DEMO)
bench: all
	@bench/run.py --build $(BUILD) --out bench/RESULTS.md $(BENCH)

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
