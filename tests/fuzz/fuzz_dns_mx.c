/*
 * Any MX records give a set in order, without hosts at or behind our own preference; neither the order they came in nor chance changes which hosts
 * and what site name. Input: a byte of chance, then per record a byte of preference and a byte that picks the name.
 */
#include "core/base/must.h"
#include "dns/codec.h"
#include "dns/mx.h"
#include "dns/pack.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#define SELF "n3.org"

static void add(struct dns_answer *answer, uint8_t preference, uint8_t pick) {
  struct dns_mx *mx = &answer->mx[answer->count++];
  answer->total++;
  mx->preference = preference;
  if (pick % 16 == 15) {
    mx->target.len = (uint8_t)snprintf(mx->target.text, sizeof mx->target.text, "%s", pick == 15 ? "" : pick == 31 ? "192.0.2.1" : "a-b.org");
  } else {
    mx->target.len = (uint8_t)snprintf(mx->target.text, sizeof mx->target.text, "n%u.%.*sorg", pick % 40, pick % 3 * 40,
                                       "long-label-long-label-long-label-long-l.long-label-long-label-long-label-long-l.");
  }
}

static void site(const struct mx_set *set, char *name) {
  struct fmt out = fmt_over(name, MX_SITE_NAME_MAX);
  mx_site_name(set, &out);
  must(!out.overflow);
  name[out.len] = '\0';
}

static void comes_back_from_the_cache(const struct mx_set *set) {
  static uint8_t room[PACK_MAX];
  struct fmt packed = fmt_over(room, sizeof room);
  struct mx_set back;
  mx_set_pack(set, &packed);
  must(!packed.overflow && mx_set_unpack(fmt_span(&packed), &back));
  must(back.status == set->status && back.hosts == set->hosts);
  for (unsigned i = 0; i < set->hosts; i++) must(strcmp(back.host[i].name, set->host[i].name) == 0);
  mx_set_clear(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  static struct dns_answer answer;
  char name[MX_SITE_NAME_MAX + 1], other[MX_SITE_NAME_MAX + 1];
  struct mx_set set = {0}, again = {0};
  unsigned self_preference = 256;
  answer = (struct dns_answer){.outcome = DNS_FOUND};
  for (size_t i = 1; i + 1 < len && answer.count < DNS_ANSWERS_MAX; i += 2) add(&answer, bytes[i], bytes[i + 1]);
  if (answer.count == 0) return 0;
  for (unsigned i = 0; i < answer.count; i++) { /* the codec gives them in order */
    for (unsigned j = i + 1; j < answer.count; j++) {
      struct dns_mx moved = answer.mx[i];
      if (answer.mx[j].preference >= moved.preference) continue;
      answer.mx[i] = answer.mx[j];
      answer.mx[j] = moved;
    }
    if (strcmp(answer.mx[i].target.text, SELF) == 0 && answer.mx[i].preference < self_preference) self_preference = answer.mx[i].preference;
  }
  must(mx_set_records(&set, &answer, SPAN(SELF), bytes[0]));
  must((set.status == MX_OK) == (set.hosts > 0) && set.hosts <= MX_HOSTS_MAX && (set.hosts > 0 || set.host == NULL));
  for (unsigned i = 0; i < set.hosts; i++) {
    must(set.host[i].preference < self_preference && strlen(set.host[i].name) == set.host[i].name_len && set.host[i].name_len > 0);
    must(i == 0 || set.host[i].preference >= set.host[i - 1].preference);
    for (unsigned j = 0; j < i; j++) must(strcmp(set.host[i].name, set.host[j].name) != 0);
  }
  comes_back_from_the_cache(&set);
  site(&set, name);
  must(mx_set_records(&again, &answer, SPAN(SELF), bytes[0] * 77 + 1));
  must(again.status == set.status && again.hosts == set.hosts);
  site(&again, other);
  must(strcmp(name, other) == 0);
  mx_set_clear(&set);
  mx_set_clear(&again);
  return 0;
}
