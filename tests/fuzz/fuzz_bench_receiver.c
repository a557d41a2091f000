/* What a peer says gets the same replies, and the same counts, wherever it is cut. The first two bytes choose the cuts and the extensions. */
#include <stdlib.h>

#include "bench/lib/receiver.h"

struct outcome {
  struct receiver_stats stats;
  struct outbox outbox;
  enum receiver_state state;
};

static void run(struct outcome *outcome, struct span bytes, size_t piece, uint8_t switches, const struct content_block *block) {
  static const struct rules rules;
  struct zone zone = {.mx_hosts = 1, .host_base = 0x7f000101, .host_count = 10};
  must(domains_parse(&zone.domains, SPAN("d%05d.test")) == 0);
  struct ledger ledger;
  must(ledger_init(&ledger) == 0);
  uint32_t now[8] = {0}, max[8] = {0};
  struct receiver_config config = {.hostname = "sink.test",
                                   .pipelining = true,
                                   .chunking = switches & 1,
                                   .enhanced = switches & 2,
                                   .starttls = switches & 4,
                                   .verify = true,
                                   .size_max = 3000,
                                   .recipients_max = 3,
                                   .rules = &rules,
                                   .block = block,
                                   .ledger = &ledger,
                                   .zone = &zone,
                                   .check_address = true,
                                   .domain_count = 8,
                                   .domain_connections = now,
                                   .domain_connections_max = max};
  struct receiver *receiver = calloc(1, sizeof *receiver);
  must(receiver != NULL);
  receiver_begin(receiver, &config, &outcome->stats, &outcome->outbox, 0x7f000102, 1, 1000);
  for (size_t at = 0; at < bytes.len; at += piece) receiver_feed(receiver, span_first(span_skip(bytes, at), piece), 2000);
  outcome->state = receiver->state;
  receiver_end(receiver);
  for (unsigned i = 0; i < 8; i++) must(now[i] == 0);
  free(receiver);
  ledger_fini(&ledger);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  if (len < 2) return 0;
  struct content_block *block = malloc(sizeof *block);
  struct outcome *whole = calloc(2, sizeof *whole), *cut = whole + 1;
  must(block != NULL && whole != NULL);
  content_block_fill(block);
  struct span said = span_of(bytes + 2, len - 2);
  run(whole, said, said.len + 1, bytes[1], block);
  run(cut, said, (size_t)bytes[0] % 64 + 1, bytes[1], block);
  must(whole->state == cut->state);
  must(span_equal(outbox_ready(&whole->outbox, UINT64_MAX - 1), outbox_ready(&cut->outbox, UINT64_MAX - 1)));
  cut->stats.pipelined = whole->stats.pipelined; /* by read, and the reads differ */
  cut->stats.pipelined_connections = whole->stats.pipelined_connections;
  must(memcmp(&whole->stats, &cut->stats, sizeof whole->stats) == 0);
  outbox_fini(&whole->outbox);
  outbox_fini(&cut->outbox);
  free(whole);
  free(block);
  return 0;
}
