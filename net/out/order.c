/* Orders that stand: what a bounce meant and is still on disk, without a place in memory, ends as soon as it is loaded. */
#include <stdlib.h>

#include "net/out/operate.h"
#include "net/out/outlet.h"

#define BUSY_MS 100  /* so long whoever is to end waits at least while too many others end, */
#define BUSY_A_MS 16 /* and so many of those that wait come again in a millisecond */

struct order {
  struct order *next;
  uint32_t owed;        /* of one message that was loaded: its recipients that are to end by any order, and have not yet */
  struct order_of what; /* its texts stand behind it */
  uint8_t text[];
};

static bool is_same(const struct order_of *a, const struct order_of *b) { return a->id == b->id && span_equal_nocase(a->domain, b->domain); }

static struct order *make(const struct order_of *what) {
  struct order *order = malloc(sizeof *order + what->domain.len + what->reason.len);
  if (order == NULL) return NULL;
  order->owed = 0;
  order->what = *what;
  struct fmt out = fmt_over(order->text, what->domain.len + what->reason.len);
  fmt_put(&out, what->domain);
  fmt_put(&out, what->reason);
  order->what.domain = span_of(order->text, what->domain.len);
  order->what.reason = span_of(order->text + what->domain.len, what->reason.len);
  return order;
}

static bool covers(const struct order_of *a, const struct order_of *b) {
  return (a->domain.len == 0 || span_equal_nocase(a->domain, b->domain)) && (a->id == 0 || a->id == b->id);
}

static void remove_at(struct order **at) {
  struct order *order = *at;
  *at = order->next;
  free(order);
}

/* The place of the first that is as `what`; else the end. What that covers is of no more use, and goes. */
static struct order **place_of(struct outlet *outlet, const struct order_of *what, unsigned *count) {
  struct order **at = &outlet->orders;
  for (*count = 0; *at != NULL && !is_same(&(*at)->what, what);) {
    if ((*at)->owed == 0 && covers(what, &(*at)->what) && (*at)->what.before_ms <= what->before_ms) {
      remove_at(at);
      continue;
    }
    at = &(*at)->next;
    (*count)++;
  }
  return at;
}

static bool is_covered(const struct outlet *outlet, const struct order_of *what) {
  const struct order *order = outlet->orders;
  while (order != NULL && !covers(&order->what, what)) order = order->next;
  return order != NULL;
}

/* What is still to be carried out of one that is said again goes on with its new words; so it never means less than before, whatever the clock says. */
bool operate_order(struct outlet *outlet, const struct order_of *what) {
  unsigned count;
  struct order **at = place_of(outlet, what, &count), *before = *at;
  if (before == NULL && count >= OPERATE_ORDERS_MAX) return is_covered(outlet, what);
  struct order *order = make(what);
  if (order == NULL) return false;
  if (before != NULL) {
    order->owed = before->owed;
    if (before->what.before_ms > what->before_ms) order->what.before_ms = before->what.before_ms;
  }
  order->next = before != NULL ? before->next : NULL;
  *at = order;
  free(before);
  return true;
}

void orders_drop(struct outlet *outlet) {
  while (outlet->orders != NULL) remove_at(&outlet->orders);
}

void orders_forget(struct outlet *outlet) {
  if (outlet->ordered == 0) orders_drop(outlet);
}

static bool means_message(const struct order *order, const struct message *message) {
  return (order->what.id == 0 || order->what.id == message->id) && message->created_ms < order->what.before_ms;
}

static bool means(const struct order *order, const struct message *message, unsigned i) {
  return order->what.domain.len == 0 || span_equal_nocase(order->what.domain, message_domain(message, i));
}

static uint32_t mark(const struct outlet *outlet, const struct order *order, struct message *message) {
  uint64_t wall_ms = outlet->o.shard->wall_ms;
  uint32_t count = 0;
  for (unsigned i = 0; i < message->recipients; i++) {
    struct recipient *recipient = &message->recipient[i];
    if (recipient->state == RECIPIENT_DONE || recipient->ordered || !means(order, message, i)) continue;
    recipient->ordered = true;
    if (recipient->due_ms > wall_ms) recipient->due_ms = wall_ms;
    count++;
  }
  return count;
}

/* Those of one message have nothing more to wait for when it has no such recipients (any more). */
static void owe(struct outlet *outlet, uint64_t id, uint32_t count) {
  for (struct order **at = &outlet->orders; *at != NULL;) {
    if ((*at)->what.id == id) (*at)->owed = count;
    if ((*at)->what.id == id && count == 0) {
      remove_at(at);
    } else {
      at = &(*at)->next;
    }
  }
}

void operate_loaded(struct outlet *outlet, struct message *message) {
  uint32_t count = 0;
  for (const struct order *order = outlet->orders; order != NULL; order = order->next)
    if (means_message(order, message)) count += mark(outlet, order, message);
  outlet->ordered += count;
  owe(outlet, message->id, count);
}

/* The first is as good as any: whichever marked it, or one that covers that, still stands. */
static const struct order *order_for(const struct outlet *outlet, const struct message *message, unsigned i) {
  const struct order *order = outlet->orders;
  while (order != NULL && !(means_message(order, message) && means(order, message, i))) order = order->next;
  must(order != NULL);
  return order;
}

static void settle(struct outlet *outlet, uint64_t id) {
  const struct order *order = outlet->orders;
  must(outlet->ordered > 0);
  outlet->ordered--;
  while (order != NULL && order->what.id != id) order = order->next;
  if (order != NULL && order->owed > 0) owe(outlet, id, order->owed - 1);
}

void order_settle(struct outlet *outlet, struct message *message, unsigned recipient) {
  if (!message->recipient[recipient].ordered) return;
  message->recipient[recipient].ordered = false;
  settle(outlet, message->id);
}

/* On disk nothing is noted of it: there it is as it was loaded. */
static void put_off(struct outlet *outlet, struct message *message, unsigned recipient) {
  struct schedule *schedule = outlet->o.schedule;
  uint64_t due_ms = outlet->o.shard->wall_ms + BUSY_MS + outlet_random(outlet) % (BUSY_MS + schedule->waiting / BUSY_A_MS);
  schedule_hold(schedule, message, recipient, due_ms);
  schedule_set_due(schedule, message, recipient, due_ms);
}

bool outlet_obey(struct outlet *outlet, struct message *message, unsigned recipient) {
  if (!message->recipient[recipient].ordered) return false;
  if (operate_is_busy(outlet)) {
    put_off(outlet, message, recipient);
    return true;
  }
  const struct order *order = order_for(outlet, message, recipient);
  uint64_t id = message->id;
  message->recipient[recipient].ordered = false;
  outlet_admin_bounce(outlet, message, recipient, order->what.reason, order->what.quiet);
  settle(outlet, id);
  return true;
}
