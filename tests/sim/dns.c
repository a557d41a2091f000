#include "tests/sim/dns.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/net.h"
#include "tests/sim/world.h"

#define MESSAGE_MAX 4096
#define HEADER 12
#define POINTER 0xc000
#define TYPE_MX 15
#define OUTAGE_NS (3 * SECOND_NS)

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

/* ---- aliases ---- */

static size_t question_end(const uint8_t *message) {
  size_t at = HEADER;
  while (message[at] != 0) at += (size_t)message[at] + 1;
  return at + 5;
}

/* How many aliases lead from the name to what is behind its first label. 0: it is none. */
static unsigned aliases_of(const struct question *question) {
  const uint8_t *name = question->bytes + HEADER;
  return question->len > HEADER + 8 && name[0] == 2 && ascii_lower(name[1]) == 'a' && name[2] >= '1' && name[2] <= '9' ? name[2] - '0' : 0;
}

static bool is_loop(const struct question *question) {
  return question->len > HEADER + 15 && span_equal_nocase(span_of(question->bytes + HEADER, 11), span_of("\4loop\4test", 11));
}

static void put16(struct fmt *out, size_t value) { fmt_bytes(out, (uint8_t[]){(uint8_t)(value >> 8), (uint8_t)value}, 2); }
static size_t get16(const uint8_t *at) { return (size_t)at[0] << 8 | at[1]; }
static void set16(uint8_t *at, size_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

/* The name at `owner` is an alias of what `label` (may be empty) makes of the one at `rest`. The place of that name. */
static size_t put_alias(struct fmt *out, size_t owner, const char *label, size_t rest) {
  put16(out, POINTER | owner);
  put16(out, 5);
  put16(out, 1);
  put16(out, 0);
  put16(out, dns.zone->ttl_s > 0xffff ? 0xffff : dns.zone->ttl_s);
  size_t len = strlen(label);
  put16(out, len > 0 ? len + 3 : 2);
  size_t target = out->len;
  if (len > 0) fmt_char(out, (char)len);
  fmt_text(out, label);
  put16(out, POINTER | rest);
  return target;
}

/* What the zone says of the name behind the aliases, with names that point to where that stands now. */
static void put_records(struct fmt *out, const uint8_t *response, size_t len, unsigned answers, size_t name) {
  size_t at = question_end(response);
  for (unsigned i = 0; i < answers; i++) { /* all begin with a pointer to the question, and those of MX end with one */
    size_t begin = out->len, record = 12 + get16(response + at + 10);
    fmt_bytes(out, response + at, record);
    set16(out->at + begin, POINTER | name);
    if (get16(response + at + 2) == TYPE_MX && record > 15) set16(out->at + out->len - 2, POINTER | name);
    at += record;
  }
  fmt_bytes(out, response + at, len - at);
}

/* False: there is no answer. */
static bool answer_alias(const struct zone *zone, const struct question *question, unsigned aliases, bool udp, struct fmt *out) {
  uint8_t query[MESSAGE_MAX], response[MESSAGE_MAX];
  struct fmt real = fmt_over(response, sizeof response);
  size_t end = question_end(question->bytes), owner = HEADER, name = HEADER + 3;
  memcpy(query, question->bytes, HEADER);
  memcpy(query + HEADER, question->bytes + name, question->len - name);
  if (!zone_answer(zone, span_of(query, question->len - 3), udp, &real)) return false;
  bool whole = (response[2] & 2) == 0 && (response[3] & 15) != 2; /* neither truncated nor a failure */
  fmt_bytes(out, response, HEADER);
  fmt_bytes(out, question->bytes + HEADER, end - HEADER);
  for (unsigned i = aliases; i > 0 && whole; i--) {
    char label[3] = {'a', (char)('0' + i - 1), 0};
    owner = put_alias(out, owner, i > 1 ? label : "", name);
  }
  put_records(out, response, real.len, (unsigned)get16(response + 6), name);
  if (whole) set16(out->at + 6, get16(response + 6) + aliases);
  return true;
}

static void answer_loop(const struct question *question, struct fmt *out) {
  fmt_bytes(out, question->bytes, question_end(question->bytes));
  out->at[2] |= 0x80;
  set16(out->at + 6, 1);
  set16(out->at + 10, 0);
  put_alias(out, HEADER, "", HEADER);
}

/* ---- the list ---- */

const uint8_t dns_stranger[3] = {203, 0, 113};
bool dns_is_listed(unsigned number) { return number % 4 == 3; }

/* The last number of the address that it asks the list about; -1: it does not. */
static int asked_about(const struct question *question) {
  static const char zone[] = "\003113\0010\003203\002bl\004test";
  const uint8_t *name = question->bytes + HEADER;
  uint64_t number;
  if (question->len < HEADER + 2 + sizeof zone || name[0] > 3 || !span_to_u64(span_of(name + 1, name[0]), &number)) return -1;
  return span_equal_nocase(span_of(name + 1 + name[0], sizeof zone), span_of(zone, sizeof zone)) ? (int)number : -1;
}

static void answer_list(const struct question *question, unsigned number, struct fmt *out) {
  bool listed = dns_is_listed(number);
  fmt_bytes(out, question->bytes, question_end(question->bytes));
  out->at[2] |= 0x80;
  if (!listed) out->at[3] |= 3;
  set16(out->at + 6, listed);
  set16(out->at + 10, 0);
  if (!listed) return;
  put16(out, POINTER | HEADER);
  fmt_bytes(out, (uint8_t[]){0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 127, 0, 0, 2}, 14); /* A, IN, for nine seconds */
}

/* ---- answers ---- */

enum outage { NO_OUTAGE, OUTAGE_SILENCE, OUTAGE_SERVFAIL };

static enum outage outage(void) {
  uint64_t period = world_now_ns() / OUTAGE_NS * 0x9e3779b97f4a7c15 >> 32;
  if (dns.habits.outage == 0 || period % dns.habits.outage != 0) return NO_OUTAGE;
  return period / dns.habits.outage % 2 == 0 ? OUTAGE_SILENCE : OUTAGE_SERVFAIL;
}

/* The question, and nothing else. */
static size_t only_code(uint8_t *room, uint8_t rcode) {
  memset(room + 6, 0, 6);
  room[2] &= 0xfd;
  room[3] = (uint8_t)((room[3] & 0xf0) | rcode);
  return question_end(room);
}

static bool answer_well(const struct question *question, bool udp, struct fmt *out) {
  struct zone zone = *dns.zone;
  zone.truncate = udp && chance_once(dns.habits.truncated);
  unsigned aliases = aliases_of(question);
  if (is_loop(question)) {
    answer_loop(question, out);
    return true;
  }
  if (asked_about(question) >= 0) {
    answer_list(question, (unsigned)asked_about(question), out);
    return true;
  }
  if (aliases > 0) return answer_alias(&zone, question, aliases, udp, out);
  return zone_answer(&zone, span_of(question->bytes, question->len), udp, out);
}

/* The length of the response; 0: none. */
static size_t respond(const struct question *question, bool udp, uint8_t *room) {
  struct fmt out = fmt_over(room, MESSAGE_MAX);
  enum outage now = outage();
  if (question->len < HEADER || now == OUTAGE_SILENCE || chance_once(dns.habits.silence) || !answer_well(question, udp, &out)) return 0;
  if (now == OUTAGE_SERVFAIL || chance_once(dns.habits.servfail)) return only_code(room, 2);
  if (chance_once(dns.habits.garbage)) return 12 + (size_t)chance(out.len - 12); /* cut off: other damage might say something else than the truth */
  return out.len;
}

static void forge(const struct question *question, const uint8_t *response, size_t len) {
  uint8_t room[MESSAGE_MAX];
  memcpy(room, response, len);
  room[chance(2)] ^= (uint8_t)(1 + chance(255));
  if (len <= HEADER + 5 || len < question_end(room)) return;
  question->answer(question->context, span_of(room, only_code(room, 3)));
}

static void answer(void *context, uint64_t number) {
  struct question *question = context;
  uint8_t room[MESSAGE_MAX + 2];
  size_t len = respond(question, question->end == NULL, room + 2);
  if (len > 0 && question->end == NULL) {
    if (chance_once(dns.habits.forged)) forge(question, room + 2, len);
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
