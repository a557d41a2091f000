/* Any text is refused, or taken in as far as it is good; what was taken is written, and that comes back whole and is written the same. */
#include <stdlib.h>

#include "core/base/error.h"
#include "net/tlsrpt/keep.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#define NOW (20000 * TLSRPT_DAY_MS + 1)

struct kept {
  struct tlsrpt_sender sender;
  struct tlsrpt_day today;
};

static int take_in(struct kept *kept, struct span text, unsigned *left_out) {
  static const struct tlsrpt_limits limits = {.domains = 20, .policies = 4, .kinds = 4, .bytes = 1u << 16};
  static const struct tlsrpt_sender_options options = {.spread_ms = 1000, .retry_ms = 1000, .patience_ms = TLSRPT_DAY_MS};
  tlsrpt_sender_init(&kept->sender, &options, 1);
  kept->today = (struct tlsrpt_day){.number = NOW / TLSRPT_DAY_MS};
  tlsrpt_tally_init(&kept->today.tally, &limits, 1);
  int error = tlsrpt_keep_read(text, &kept->today, &kept->sender, NOW, left_out);
  must(error == E_OK || error == E_SYNTAX);
  must(kept->sender.days_count <= TLSRPT_DAYS_MAX && kept->sender.dues_count <= TLSRPT_DAYS_MAX * limits.domains);
  return error;
}

static void let_go(struct kept *kept) {
  tlsrpt_sender_fini(&kept->sender);
  tlsrpt_tally_clear(&kept->today.tally);
}

static unsigned dues_of(const struct kept *kept) { return kept->sender.dues_count + kept->today.tally.map.count * 1000; }

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  struct kept first, again;
  unsigned left_out;
  int error = take_in(&first, span_of(bytes, len), &left_out);
  must(error == E_OK || (dues_of(&first) == 0 && left_out == 0));
  char *text = tlsrpt_keep_write(&first.today, &first.sender);
  must(text != NULL && take_in(&again, span_of_text(text), &left_out) == E_OK && left_out == 0 && dues_of(&again) == dues_of(&first));
  let_go(&first);
  let_go(&again);
  free(text);
  return 0;
}
