/*
 * The shard's side: its counts, and how the thread takes them.
 */
#include "net/tlsrpt/inside.h"

#define LOOK_MS 50

/* ---- calls ---- */

void call_begin(struct call *call, struct https *wake, struct shard *shard, errand_step step, void *context) {
  must(!call->used);
  *call = (struct call){.wake = wake, .shard = shard, .used = true};
  errand_init(&call->errand, step, context);
  errand_ask(shard, &call->errand);
}

bool call_step(struct call *call) {
  if (!call->ready) {
    call->errand.not_before_ms = call->shard->now_ms + LOOK_MS; /* if not call_ready comes before, or comes when the turn's errands are over */
    return false;
  }
  atomic_store_explicit(&call->finished, true, memory_order_release);
  https_wake(call->wake);
  return true;
}

void call_ready(struct call *call) {
  call->ready = true;
  call->errand.not_before_ms = 0;
}

bool call_is_over(const struct call *call) {
  return call->used && (atomic_load_explicit(&call->finished, memory_order_acquire) || errand_is_over(&call->errand));
}

bool call_end(struct call *call) {
  call->used = false;
  return errand_await(&call->errand);
}

/* ---- counting ---- */

void tlsrpt_success(struct tlsrpt_view *view, struct span domain, struct tlsrpt_policy *policy) {
  tlsrpt_tally_success(view->tally, domain, policy, 1);
}

void tlsrpt_failure(struct tlsrpt_view *view, struct span domain, struct tlsrpt_policy *policy, const struct tlsrpt_failure *failure) {
  tlsrpt_tally_failure(view->tally, domain, policy, failure, 1);
}

static bool swap(struct errand *errand, void *context) {
  struct tlsrpt_view *view = context;
  struct tlsrpt_tally *counted = view->tally;
  (void)errand;
  view->tally = view->spare;
  view->spare = counted;
  call_ready(&view->collect);
  return call_step(&view->collect);
}

void view_collect(struct tlsrpt_view *view) {
  struct shard *shard = atomic_load_explicit(&view->shard, memory_order_acquire);
  if (shard != NULL) call_begin(&view->collect, view->tlsrpt->https, shard, swap, view);
}

/* ---- life ---- */

void view_init(struct tlsrpt_view *view, struct tlsrpt *tlsrpt, uint64_t seed) {
  *view = (struct tlsrpt_view){.tlsrpt = tlsrpt};
  for (unsigned i = 0; i < 2; i++) tlsrpt_tally_init(&view->pair[i], &tlsrpt->o.shard, seed + i);
  view->tally = &view->pair[0];
  view->spare = &view->pair[1];
}

void view_fini(struct tlsrpt_view *view) {
  if (view->collect.used) (void)call_end(&view->collect);
  for (unsigned i = 0; i < 2; i++) tlsrpt_tally_clear(&view->pair[i]);
}

struct tlsrpt_view *tlsrpt_view(struct tlsrpt *tlsrpt, unsigned index, struct shard *shard, struct resolver *resolver) {
  must(index < tlsrpt->o.views);
  struct tlsrpt_view *view = &tlsrpt->views[index];
  view->resolver = resolver;
  atomic_store_explicit(&view->shard, shard, memory_order_release);
  return view;
}
