/* Orders that stand: what a bounce meant and is still on disk, without a place in memory, ends as soon as it is loaded. */
#include <stdlib.h>

#include "net/out/operate.h"
#include "net/out/outlet.h"

struct order {
  struct order *next;
  struct order_of what; /* its texts stand behind it */
  uint8_t text[];
};

static bool is_same(const struct order_of *a, const struct order_of *b) { return a->id == b->id && span_equal_nocase(a->domain, b->domain); }

static struct order *make(const struct order_of *what) {
  struct order *order = malloc(sizeof *order + what->domain.len + what->reason.len);
  if (order == NULL) return NULL;
  order->what = *what;
  struct fmt out = fmt_over(order->text, what->domain.len + what->reason.len);
  fmt_put(&out, what->domain);
  fmt_put(&out, what->reason);
  order->what.domain = span_of(order->text, what->domain.len);
  order->what.reason = span_of(order->text + what->domain.len, what->reason.len);
  return order;
}

bool operate_order(struct outlet *outlet, const struct order_of *what) {
  unsigned count = 0;
  struct order **at = &outlet->orders;
  for (; *at != NULL && !is_same(&(*at)->what, what); at = &(*at)->next) count++;
  struct order *before = *at, *order = before == NULL && count == OPERATE_ORDERS_MAX ? NULL : make(what);
  if (order == NULL) return false;
  order->next = before != NULL ? before->next : NULL;
  *at = order;
  free(before);
  return true;
}

void orders_forget(struct outlet *outlet) {
  for (struct order *order = outlet->orders, *next; order != NULL; order = next) {
    next = order->next;
    free(order);
  }
  outlet->orders = NULL;
}

static const struct order *order_for(const struct outlet *outlet, const struct message *message, unsigned i) {
  for (const struct order *order = outlet->orders; order != NULL; order = order->next) {
    const struct order_of *what = &order->what;
    bool is_domain = what->domain.len == 0 || span_equal_nocase(what->domain, message_domain(message, i));
    bool is_message = what->id == 0 || what->id == message->id;
    if (is_domain && is_message && message->created_ms < what->before_ms) return order;
  }
  return NULL;
}

void operate_loaded(const struct outlet *outlet, struct message *message) {
  uint64_t wall_ms = outlet->o.shard->wall_ms;
  for (unsigned i = 0; outlet->orders != NULL && i < message->recipients; i++)
    if (message->recipient[i].due_ms > wall_ms && order_for(outlet, message, i) != NULL) message->recipient[i].due_ms = wall_ms;
}

bool outlet_obey(struct outlet *outlet, struct message *message, unsigned recipient) {
  const struct order *order = message->late ? order_for(outlet, message, recipient) : NULL; /* others were there when it was given */
  if (order == NULL) return false;
  outlet_admin_bounce(outlet, message, recipient, order->what.reason, order->what.quiet);
  return true;
}
