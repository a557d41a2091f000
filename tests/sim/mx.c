#include "tests/sim/mx.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/buffer.h"
#include "tests/sim/ledger.h"
#include "tests/sim/net.h"
#include "tests/sim/orders.h"
#include "tests/sim/settings.h"
#include "tests/sim/world.h"

#define RECIPIENTS_MAX 1000
#define CONTENT_MAX (8u << 20)
#define SESSIONS_MAX 100000

struct taken {
  unsigned message, recipient;
  enum fate fate;
  bool is_report; /* to the sender of that message */
};

struct out {
  struct session *session;
  enum { OUT_SAY, OUT_CLOSE, OUT_RESET } what;
  uint64_t **read; /* deliveries that this answers */
  unsigned read_count;
  size_t len;
  char text[];
};

struct session {
  struct session *next;
  struct end *end;
  unsigned host, number;
  bool over; /* nothing that comes is looked at */
  bool mute, asleep;
  bool drips, liar, greeted, has_mail, in_data, is_last;
  bool chunk_refused;
  bool from_nobody; /* the reverse-path is null */
  uint64_t chunk_left;
  uint64_t out_ns;
  uint8_t *in;
  size_t in_len, in_capacity;
  uint8_t *pending; /* could not be written yet */
  size_t pending_len;
  struct taken *recipients;
  unsigned recipients_count, recipients_max;
  uint8_t *content;
  size_t content_len, content_capacity;
  unsigned transactions;
  uint64_t begun_ns;
  uint64_t mail_ns, before_ns; /* when the last transaction began, and the one before it; 0: there was none */
};

static struct {
  const struct zone *zone;
  uint32_t hosts;
  struct mx_habits habits;
  struct session *sessions;
  struct listener **listeners; /* of each host */
  bool *is_down;
  struct mx_sums sums;
} mx;

/* The one for routes has settings of its own nowhere. */
static unsigned site_of(unsigned host) { return host / mx.zone->mx_hosts + (host < mx.zone->host_count ? 0 : SETTINGS_SPECIAL); }

const struct mx_sums *mx_sums(void) { return &mx.sums; }

/* ---- saying ---- */

static void write_pending(struct session *s) {
  if (s->pending_len == 0) return;
  size_t taken = end_write(s->end, s->pending, s->pending_len);
  memmove(s->pending, s->pending + taken, s->pending_len - taken);
  s->pending_len -= taken;
}

static void forget_session(struct session *s) {
  struct session **at = &mx.sessions;
  while (*at != NULL && *at != s) at = &(*at)->next;
  if (*at == s) *at = s->next;
  s->over = true;
}

static void out_happens(void *context, uint64_t number) {
  (void)number;
  struct out *out = context;
  struct session *s = out->session;
  if (out->what == OUT_SAY) {
    s->pending = realloc(s->pending, s->pending_len + out->len + 1);
    memcpy(s->pending + s->pending_len, out->text, out->len);
    s->pending_len += out->len;
    write_pending(s);
    for (unsigned i = 0; i < out->read_count && s->pending_len == 0 && !s->liar; i++) end_mark(s->end, out->read[i]);
  } else if (out->what == OUT_CLOSE) {
    end_close(s->end);
  } else {
    end_abort(s->end);
  }
  free(out->read);
  free(out);
}

static struct out *new_out(struct session *s, int what, const char *text, size_t len) {
  struct out *out = sim_alloc(sizeof *out + len + 1);
  out->session = s;
  out->what = what;
  out->len = len;
  memcpy(out->text, text, len);
  return out;
}

static void later(struct session *s, struct out *out) {
  uint64_t at_ns = world_now_ns() + chance_spread(mx.habits.reply_low_ns, mx.habits.reply_high_ns);
  if (at_ns > s->out_ns) s->out_ns = at_ns;
  world_at(s->out_ns, out_happens, out, 0);
}

static void hang_up(struct session *s, bool reset) {
  trace("mx %u.%u %s", s->host, s->number, reset ? "resets" : "hangs up");
  later(s, new_out(s, reset ? OUT_RESET : OUT_CLOSE, "", 0));
  forget_session(s);
}

static void say_with(struct session *s, const char *text, uint64_t **read, unsigned read_count) {
  if (chance_once(mx.habits.mute)) s->mute = true;
  if (s->mute) {
    trace("mx %u.%u is mute", s->host, s->number);
    free(read);
    return;
  }
  trace("mx %u.%u: %.60s", s->host, s->number, text);
  size_t len = strlen(text);
  bool drips = s->drips && mx.habits.drip > 0;
  for (size_t at = 0; drips && at + 1 < len; at++) {
    later(s, new_out(s, OUT_SAY, text + at, 1));
    s->out_ns += chance(200) * MILLISECOND_NS;
  }
  struct out *out = drips ? new_out(s, OUT_SAY, text + len - 1, 1) : new_out(s, OUT_SAY, text, len);
  out->read = read;
  out->read_count = read_count;
  later(s, out);
}

/* A reply, or what comes in its place. */
static void say(struct session *s, const char *text) {
  if (chance_once(mx.habits.cut) || chance_once(mx.habits.reset)) {
    hang_up(s, chance_once(2));
  } else if (chance_once(mx.habits.any_421)) {
    say_with(s, "421 4.3.2 going down\r\n", NULL, 0);
    hang_up(s, false);
  } else {
    bool extra = text[0] != '5' && s->recipients_count == 0 && chance_once(mx.habits.extra_reply);
    s->liar |= extra;
    if (extra) say_with(s, "451 4.3.0 and what is more\r\n", NULL, 0);
    say_with(s, text, NULL, 0);
    if (extra) hang_up(s, false); /* a session that stays out of step may be told anything */
  }
}

/* ---- a transaction ---- */

static void clear(struct session *s) {
  s->has_mail = false;
  s->recipients_count = 0;
  s->content_len = 0;
  s->in_data = false;
}

/* Wire form of DATA is kept as it came; a chunk's content is put into it, for the ledger. */
static void take_content(struct session *s, bool stuffed) {
  if (chance_once(mx.habits.untaken_and_cut)) {
    hang_up(s, chance_once(2));
    return;
  }
  if (chance_once(mx.habits.final_4xx)) {
    say(s, "451 4.3.0 not now\r\n");
    return;
  }
  struct span content = span_of(s->content, s->content_len);
  uint8_t *wire = NULL;
  if (!stuffed) {
    wire = sim_alloc(s->content_len * 2 + 1);
    size_t len = 0;
    for (size_t i = 0; i < s->content_len; i++) {
      if (s->content[i] == '.' && (i == 0 || s->content[i - 1] == '\n')) wire[len++] = '.';
      wire[len++] = s->content[i];
    }
    content = span_of(wire, len);
  }
  uint64_t **read = sim_alloc((s->recipients_count + 1) * sizeof *read);
  if (s->recipients[0].is_report) {
    ledger_report(s->recipients[0].message, content);
    s->recipients_count = 0;
  }
  for (unsigned i = 0; i < s->recipients_count; i++) {
    if (i == 0 || s->recipients[i].message != s->recipients[i - 1].message) ledger_check_content(s->recipients[i].message, content);
    read[i] = ledger_delivered(s->recipients[i].message, s->recipients[i].recipient, !end_is_held(s->end));
    trace("mx %u.%u takes message %u for recipient %u", s->host, s->number, s->recipients[i].message, s->recipients[i].recipient);
  }
  free(wire);
  mx.sums.messages++;
  if (chance_once(mx.habits.taken_and_cut)) {
    free(read);
    hang_up(s, chance_once(2));
    return;
  }
  say_with(s, "250 2.0.0 taken\r\n", read, s->recipients_count);
}

static void mail(struct session *s, struct span line) {
  unsigned most = settings_messages(site_of(s->host), s->begun_ns);
  s->from_nobody = memmem(line.at, line.len, "<>", 2) != NULL;
  s->before_ns = s->mail_ns;
  s->mail_ns = world_now_ns();
  if (s->has_mail) {
    say(s, "503 5.5.1 nested\r\n");
  } else if (++s->transactions > most && end_is_held(s->end)) {
    fault("a session with host %u has more than %u transactions", s->host, most);
  } else if (chance_once(mx.habits.mail_4xx)) {
    say(s, "451 4.3.0 not now\r\n");
  } else {
    s->has_mail = true;
    say(s, "250 2.1.0 ok\r\n");
  }
}

static const char *answer_to(struct session *s, const struct taken *taken) {
  if (taken->fate == FATE_REFUSED) return "550 5.1.1 nobody of that name\r\n";
  if (taken->fate == FATE_EXPIRES) return "451 4.2.1 never\r\n";
  if (chance_once(mx.habits.rcpt_4xx)) return "450 4.2.1 busy\r\n";
  if (mx.habits.greylist > 0 && (taken->message * 7 + taken->recipient) % mx.habits.greylist == 0 && world_now_ns() / SECOND_NS % 4 != 0)
    return "451 4.7.1 greylisted\r\n";
  if (s->recipients_count == s->recipients_max) return "452 4.5.3 too many recipients\r\n";
  return NULL;
}

/* A transaction that stands behind another was sent with the end of that, at the latest. What was given up is nobody's. */
static void check_orders(const struct session *s, struct span address, const struct taken *taken) {
  ptrdiff_t at = span_find(address, '@');
  if (at < 0 || !end_is_held(s->end)) return;
  struct addressee addressee = {span_skip(address, (size_t)at + 1), taken->is_report ? ORDERS_REPORT : taken->message};
  orders_check(&addressee, s->begun_ns, s->before_ns != 0 ? s->before_ns : s->mail_ns);
}

static void rcpt(struct session *s, struct span line) {
  struct taken taken = {.fate = FATE_DELIVERED};
  ptrdiff_t from = span_find(line, '<'), to = span_find(line, '>');
  if (!s->has_mail) {
    say(s, "503 5.5.1 MAIL first\r\n");
    return;
  }
  struct span address = from < 0 || to < from ? line : span_of(line.at + from + 1, (size_t)(to - from) - 1);
  taken.is_report = ledger_find_sender(address, &taken.message);
  if (!taken.is_report && !ledger_find(address, &taken.message, &taken.recipient, &taken.fate))
    fault("host %u is asked for a recipient of nobody's: %.*s", s->host, (int)line.len, (const char *)line.at);
  if (taken.is_report != s->from_nobody) fault("only reports, and all of them, come from nobody: %.*s", (int)line.len, (const char *)line.at);
  check_orders(s, address, &taken);
  const char *answer = answer_to(s, &taken);
  if (answer == NULL) {
    if (s->recipients_count > 0 && s->recipients[0].message != taken.message) fault("recipients of two messages in one transaction");
    s->recipients[s->recipients_count++] = taken;
    answer = "250 2.1.5 ok\r\n";
  }
  say(s, answer);
}

static void data(struct session *s) {
  if (s->recipients_count == 0) {
    say(s, s->has_mail ? "554 5.5.1 no valid recipients\r\n" : "503 5.5.1 MAIL first\r\n");
  } else if (chance_once(mx.habits.data_4xx)) {
    say(s, "451 4.3.0 not now\r\n");
    clear(s);
  } else {
    s->in_data = true;
    say(s, "354 go on\r\n");
  }
}

static void hello(struct session *s, bool extended) {
  clear(s);
  s->greeted = true;
  if (!extended) {
    say(s, "250 mx.test\r\n");
    return;
  }
  if (chance_once(mx.habits.helo_only)) {
    say(s, "500 5.5.1 what?\r\n");
    return;
  }
  char text[256];
  struct fmt out = fmt_over(text, sizeof text);
  fmt_text(&out, "250-mx.test\r\n");
  if (!chance_once(mx.habits.no_pipelining)) fmt_text(&out, "250-PIPELINING\r\n");
  if (!chance_once(mx.habits.no_chunking)) fmt_text(&out, "250-CHUNKING\r\n");
  if (chance_once(mx.habits.limits)) {
    s->recipients_max = 1 + (unsigned)chance(5);
    fmt_text(&out, "250-LIMITS RCPTMAX=");
    fmt_u64(&out, s->recipients_max);
    fmt_text(&out, "\r\n");
  }
  fmt_text(&out, "250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 50000000\r\n");
  fmt_char(&out, '\0');
  say(s, text);
}

static void append_content(struct session *s, const uint8_t *bytes, size_t len) {
  if (chance_once(mx.habits.cut_in_content)) {
    if (chance_once(2)) say_with(s, "421 4.3.2 no more of that\r\n", NULL, 0);
    hang_up(s, chance_once(2));
    return;
  }
  if (s->content_len + len > s->content_capacity) {
    s->content_capacity = (s->content_len + len) * 2 + 4096;
    must(s->content_capacity <= CONTENT_MAX * 2);
    s->content = realloc(s->content, s->content_capacity);
  }
  memcpy(s->content + s->content_len, bytes, len);
  s->content_len += len;
}

static void end_chunk(struct session *s) {
  if (s->chunk_refused) {
    say(s, s->has_mail ? "554 5.5.1 no valid recipients\r\n" : "503 5.5.1 MAIL first\r\n");
    clear(s);
  } else if (!s->is_last) {
    say(s, "250 2.0.0 go on\r\n");
  } else {
    take_content(s, false);
    clear(s);
  }
}

static void bdat(struct session *s, struct span line) {
  unsigned long long size = 0;
  char text[64] = "", last[8] = "";
  memcpy(text, line.at, line.len < 63 ? line.len : 63);
  must(sscanf(text + 5, "%llu %7s", &size, last) >= 1);
  s->chunk_left = size;
  s->is_last = last[0] != '\0';
  s->chunk_refused = s->recipients_count == 0;
  if (size == 0) end_chunk(s);
}

static bool begins(struct span line, const char *verb) {
  return line.len >= strlen(verb) && strncasecmp((const char *)line.at, verb, strlen(verb)) == 0;
}

static void command(struct session *s, struct span line) {
  trace("mx %u.%u <- %.*s", s->host, s->number, (int)(line.len < 80 ? line.len : 80), (const char *)line.at);
  if (begins(line, "EHLO") || begins(line, "HELO")) {
    hello(s, begins(line, "EHLO"));
  } else if (begins(line, "MAIL")) {
    mail(s, line);
  } else if (begins(line, "RCPT")) {
    rcpt(s, line);
  } else if (begins(line, "DATA")) {
    data(s);
  } else if (begins(line, "BDAT")) {
    bdat(s, line);
  } else if (begins(line, "RSET")) {
    clear(s);
    say(s, "250 2.0.0 ok\r\n");
  } else if (begins(line, "NOOP")) {
    say(s, "250 2.0.0 ok\r\n");
  } else if (begins(line, "QUIT")) {
    say_with(s, "221 2.0.0 bye\r\n", NULL, 0);
    hang_up(s, false);
  } else {
    fault("host %u is told: %.*s", s->host, (int)(line.len < 200 ? line.len : 200), (const char *)line.at);
  }
}

/* ---- hearing ---- */

/* One line of content. */
static void data_line(struct session *s, struct span line) {
  if (line.len == 1 && line.at[0] == '.') {
    take_content(s, true);
    clear(s);
    return;
  }
  append_content(s, line.at, line.len);
  if (!s->over) append_content(s, (const uint8_t *)"\r\n", 2);
}

/* How many bytes of it were used up: a command, a line of content, a piece of a chunk. 0: more has to come. */
static size_t hear(struct session *s, struct span in) {
  if (s->chunk_left > 0) {
    size_t len = in.len < s->chunk_left ? in.len : (size_t)s->chunk_left;
    if (!s->chunk_refused) append_content(s, in.at, len);
    s->chunk_left -= len;
    if (s->chunk_left == 0 && !s->over) end_chunk(s);
    return len;
  }
  ptrdiff_t end = span_find(in, '\n');
  if (end < 0) return 0;
  if (end == 0 || in.at[end - 1] != '\r') fault("host %u is sent a bare LF", s->host);
  struct span line = span_first(in, (size_t)end - 1);
  if (s->in_data) {
    data_line(s, line);
  } else {
    command(s, line);
  }
  return (size_t)end + 1;
}

static void told(void *owner, struct end *end, enum net_news news);

static void wakes(void *context, uint64_t number) {
  (void)number;
  struct session *s = context;
  s->asleep = false;
  if (!s->over) told(s, s->end, NET_ARRIVED);
}

static void told(void *owner, struct end *end, enum net_news news) {
  struct session *s = owner;
  if (news == NET_ROOM) write_pending(s);
  if (news != NET_ARRIVED || s->over || s->asleep) return;
  if (chance_once(mx.habits.reads_slowly)) {
    s->asleep = true;
    world_after(chance_spread(MILLISECOND_NS, 15 * SECOND_NS), wakes, s, 0);
    return;
  }
  uint8_t room[16384];
  for (size_t got; (got = end_read(end, room, sizeof room)) > 0;) {
    if (s->in_len + got > s->in_capacity) {
      s->in_capacity = (s->in_len + got) * 2;
      s->in = realloc(s->in, s->in_capacity);
    }
    memcpy(s->in + s->in_len, room, got);
    s->in_len += got;
  }
  size_t used = 0;
  for (size_t step; !s->over && used < s->in_len && (step = hear(s, span_of(s->in + used, s->in_len - used))) > 0;) used += step;
  if (s->in_len > 0) memmove(s->in, s->in + used, s->in_len - used);
  s->in_len -= used;
  if (!s->over && (end_is_over(end) || end_is_reset(end))) {
    end_close(end);
    forget_session(s);
  }
}

/* ---- sessions ---- */

/* As the relay itself sees it: what it has closed is closed, though the host may not know yet. */
static void check_limit(const struct session *new) {
  unsigned count = 0, allowed = settings_connections(site_of(new->host));
  for (const struct session *s = mx.sessions; s != NULL; s = s->next) count += site_of(s->host) == site_of(new->host) && end_is_held(s->end);
  if (count > mx.sums.most_at_once) mx.sums.most_at_once = count;
  if (count > allowed) fault("site %u has %u connections, allowed are %u", site_of(new->host), count, allowed);
}

static void greet(struct session *s) {
  if (chance_once(mx.habits.greeting_421)) {
    say_with(s, "421 4.3.2 busy\r\n", NULL, 0);
    hang_up(s, false);
  } else if (chance_once(mx.habits.greeting_silence)) {
    trace("mx %u.%u is silent", s->host, s->number);
  } else {
    say(s, "220 mx.test ESMTP\r\n");
  }
}

static void accepted(void *owner, struct end *end) {
  struct session *s = sim_alloc(sizeof *s);
  *s = (struct session){.next = mx.sessions,
                        .end = end,
                        .host = (unsigned)(uintptr_t)owner,
                        .number = (unsigned)mx.sums.sessions,
                        .recipients_max = RECIPIENTS_MAX,
                        .begun_ns = world_now_ns()};
  s->drips = chance_once(mx.habits.drip);
  s->recipients = sim_alloc(RECIPIENTS_MAX * sizeof *s->recipients);
  mx.sessions = s;
  mx.sums.sessions++;
  end->owner = s;
  end->tell = told;
  trace("mx %u.%u has a session", s->host, s->number);
  check_limit(s);
  if (chance_once(mx.habits.refuse_connection)) {
    hang_up(s, true);
  } else {
    greet(s);
  }
}

/* ---- hosts that are down ---- */

static void listen_on(uint32_t host, net_accept accept) {
  uint32_t ip = mx.zone->host_base + host;
  struct netaddr address = {.family = 4, .port = 25, .bytes = {(uint8_t)(ip >> 24), (uint8_t)(ip >> 16), (uint8_t)(ip >> 8), (uint8_t)ip}};
  mx.listeners[host] = net_listen(&address, accept, (void *)(uintptr_t)host);
}

static void comes_up(void *context, uint64_t host) {
  (void)context;
  if (mx.listeners[host] != NULL) net_unlisten(mx.listeners[host]);
  listen_on((uint32_t)host, accepted);
  mx.is_down[host] = false;
}

static void some_go_down(void *context, uint64_t number) {
  (void)context;
  (void)number;
  for (uint32_t host = 0; host < mx.hosts && mx.habits.down > 0; host++) {
    if (mx.is_down[host] || !chance_once(mx.habits.down)) continue;
    trace("mx %u is down", host);
    net_unlisten(mx.listeners[host]);
    mx.listeners[host] = NULL;
    mx.is_down[host] = true;
    if (chance_once(2)) listen_on(host, NULL);
    world_after(chance_spread(10 * MILLISECOND_NS, 10 * SECOND_NS), comes_up, NULL, host);
  }
  if (mx.habits.down > 0) world_after(SECOND_NS, some_go_down, NULL, 0);
}

void mx_set_habits(const struct mx_habits *habits) {
  mx.habits = *habits;
  if (habits->down > 0) some_go_down(NULL, 0);
}

void mx_open(const struct zone *zone) {
  memset(&mx, 0, sizeof mx);
  mx.zone = zone;
  mx.hosts = zone->host_count + 1;
  mx.listeners = sim_alloc(mx.hosts * sizeof(struct listener *));
  mx.is_down = sim_alloc(mx.hosts);
  for (uint32_t host = 0; host < mx.hosts; host++) listen_on(host, accepted);
}
