/* Any text either gives a sound configuration, or one line that says why not and nothing left allocated; and the same text gives the same answer again. */
#include "core/base/error.h"
#include "core/conf/system.h"
#include "tests/lib/conf_sound.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const struct conf_system fuzz_system = {.hostname = "relay.example.net", .cores = 4, .memory_bytes = (uint64_t)8 << 30};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  uint8_t room[2][512];
  struct fmt why[2];
  int error[2];
  for (unsigned i = 0; i < 2; i++) {
    struct conf conf;
    why[i] = fmt_over(room[i], sizeof room[i]);
    error[i] = conf_parse_on(&conf, &fuzz_system, span_of(bytes, len), "fuzz.yaml", &why[i]);
    if (error[i] == E_OK) {
      must(conf_unsound(&conf) == NULL);
      must(why[i].len == 0);
    } else {
      must(error[i] == E_SYNTAX || error[i] == E_RANGE);
      must(why[i].len > 0 && !why[i].overflow);
      for (size_t k = 0; k < why[i].len; k++) must(why[i].at[k] >= ' ' && why[i].at[k] < 0x7f);
      must(conf.hostname == NULL && conf.listeners == NULL && conf.routes == NULL && conf.sites == NULL);
    }
    conf_free(&conf);
  }
  must(error[0] == error[1] && span_equal(fmt_span(&why[0]), fmt_span(&why[1])));
  return 0;
}
