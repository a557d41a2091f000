#include "tests/sim/dns.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/net.h"
#include "tests/sim/world.h"

#define MESSAGE_MAX 4096

struct question {
  net_answer answer;
  void *context;
  struct end *end; /* by TCP */
  size_t len;
  uint8_t bytes[MESSAGE_MAX];
};

struct session {
  uint8_t in[MESSAGE_MAX];
  size_t len;
};

static struct {
  const struct zone *zone;
  struct dns_habits habits;
} dns;

void dns_set_habits(const struct dns_habits *habits) { dns.habits = *habits; }

/* The length of the response; 0: none. */
static size_t respond(const struct question *question, bool udp, uint8_t *room) {
  struct fmt out = fmt_over(room, MESSAGE_MAX);
  struct zone zone = *dns.zone;
  zone.truncate = udp && chance_once(dns.habits.truncated);
  if (question->len < 12 || chance_once(dns.habits.silence) || !zone_answer(&zone, span_of(question->bytes, question->len), udp, &out)) return 0;
  if (chance_once(dns.habits.servfail)) {
    memset(room + 6, 0, 6);
    room[3] = (uint8_t)((room[3] & 0xf0) | 2);
    size_t at = 12;
    while (room[at] != 0) at += (size_t)room[at] + 1;
    return at + 5; /* the question, and nothing else */
  }
  if (chance_once(dns.habits.garbage)) return 12 + (size_t)chance(out.len - 12); /* cut off: other damage might say something else than the truth */
  return out.len;
}

static void answer(void *context, uint64_t number) {
  struct question *question = context;
  uint8_t room[MESSAGE_MAX + 2];
  size_t len = respond(question, question->end == NULL, room + 2);
  if (len > 0 && question->end == NULL) {
    question->answer(question->context, span_of(room + 2, len));
    if (number == 0 && chance_once(dns.habits.twice)) {
      world_after(chance_spread(dns.habits.low_ns, dns.habits.high_ns), answer, question, 1);
      return;
    }
  } else if (len > 0) {
    room[0] = (uint8_t)(len >> 8);
    room[1] = (uint8_t)len;
    end_write(question->end, room, len + 2);
  }
  free(question);
}

static struct question *ask(struct span bytes) {
  struct question *question = sim_alloc(sizeof *question);
  question->len = bytes.len < MESSAGE_MAX ? bytes.len : MESSAGE_MAX;
  memcpy(question->bytes, bytes.at, question->len);
  world_after(chance_spread(dns.habits.low_ns, dns.habits.high_ns), answer, question, 0);
  return question;
}

static void serve(void *owner, struct span bytes, net_answer reply, void *context) {
  (void)owner;
  struct question *question = ask(bytes);
  question->answer = reply;
  question->context = context;
}

static void told(void *owner, struct end *end, enum net_news news) {
  struct session *session = owner;
  if (news != NET_ARRIVED) return;
  session->len += end_read(end, session->in + session->len, sizeof session->in - session->len);
  while (session->len >= 2) {
    size_t len = (size_t)session->in[0] << 8 | session->in[1];
    if (session->len < 2 + len) break;
    ask(span_of(session->in + 2, len))->end = end;
    memmove(session->in, session->in + 2 + len, session->len - 2 - len);
    session->len -= 2 + len;
  }
  if (end_is_over(end) || end_is_reset(end)) end_close(end);
}

static void accepted(void *owner, struct end *end) {
  (void)owner;
  end->owner = sim_alloc(sizeof(struct session));
  end->tell = told;
}

void dns_open(const struct zone *zone, const struct netaddr *address) {
  dns.zone = zone;
  dns.habits = (struct dns_habits){.low_ns = 100 * MICROSECOND_NS, .high_ns = 2 * MILLISECOND_NS};
  net_serve(address, serve, NULL);
  net_listen(address, accepted, NULL);
}
