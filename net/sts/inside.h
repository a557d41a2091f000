/*
 * inside: what the shard's side (view.c) and the thread (sts.c) share. A place belongs to the shard; from the push into the ring until its errand has begun `asked` and
 * `told` are the thread's.
 */
#ifndef NET_STS_INSIDE_H
#define NET_STS_INSIDE_H

#include "core/base/map.h"
#include "core/base/spsc.h"
#include "core/shard/shard.h"
#include "dns/resolver.h"
#include "net/sts/sts.h"

struct sts_told {
  enum sts_state state;
  enum sts_trouble trouble;
  struct sts_policy *policy; /* held; the place's to drop */
  uint64_t until_ms;         /* wall clock: the policy holds */
  uint64_t again_ms;         /* ask again after so long */
};

TAILQ_HEAD(sts_queries, sts_query);

struct sts_place { /* a domain on a shard */
  TAILQ_ENTRY(sts_place) recent;
  struct sts_view *view;
  struct sts_queries queries;
  struct record_query record;
  bool asking;      /* from the question about TXT to the end of the errand's step */
  bool errand_used; /* its end is still to be waited for */
  uint64_t fresh_until_ms;
  struct sts_told told;
  struct sts_told coming; /* written by the thread */
  struct errand errand;
  bool announced;
  char id[STS_ID_MAX + 1];
  struct dns_name domain;
};
TAILQ_HEAD(sts_places, sts_place);

struct sts_view {
  struct sts *sts;
  struct shard *shard;
  struct resolver *resolver;
  struct map map;
  struct sts_places recent; /* the latest used first */
  struct spsc asked;        /* of struct sts_place *; room for all */
};

/* ---- view.c ---- */
must_check int sts_view_open(struct sts_view *view, struct sts *sts, uint64_t seed);
void sts_view_close(struct sts_view *view);
/* On the thread: `coming` is filled in. */
void sts_view_tell(struct sts_place *place);

/* ---- sts.c ---- */
const struct sts_options *sts_options_of(const struct sts *sts);
void sts_wake(struct sts *sts);

#endif
