#include "tests/sim/client.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/fmt.h"
#include "tests/sim/dns.h"
#include "tests/sim/ledger.h"
#include "tests/sim/net.h"
#include "tests/sim/settings.h"
#include "tests/sim/world.h"

#define REPLY_MAX 4096
#define SESSIONS_MAX 64
#define RECIPIENTS_MAX 100
#define RECONNECT_NS (50 * MILLISECOND_NS)

enum style { PLAIN, PIPELINED, CHUNKED, STYLES };

/* What a reply is for. */
enum asked { ASKED_GREETING, ASKED_EHLO, ASKED_MAIL, ASKED_RCPT, ASKED_DATA, ASKED_CHUNK, ASKED_END, ASKED_RSET, ASKED_QUIT };

struct session {
  struct end *end;
  bool open, quits;
  enum style style;
  enum asked asked[RECIPIENTS_MAX + 300]; /* in the order of their commands */
  unsigned asked_count;
  uint8_t *out;
  size_t out_len, out_capacity;
  bool held; /* nothing is written for a while */
  char in[REPLY_MAX];
  size_t in_len;
  unsigned message, recipients, recipient; /* `recipient`: those whose RCPT was sent, in PLAIN */
  bool has_message, refused, illegal;
  unsigned messages;
  unsigned life; /* which connection of this place it is */
  struct span content;
};

static struct {
  struct netaddr relay;
  struct client_habits habits;
  struct session sessions[SESSIONS_MAX];
  unsigned sessions_count, left;
  bool stopped;
  struct client_sums sums;
} client;

const struct client_sums *client_sums(void) { return &client.sums; }
void client_set_habits(const struct client_habits *habits) { client.habits = *habits; }
void client_stop(void) { client.stopped = true; }

bool client_is_over(void) {
  for (unsigned i = 0; i < client.sessions_count; i++)
    if (client.sessions[i].open) return false;
  return client.stopped || client.left == 0;
}

/* ---- writing ---- */

static void flush(struct session *s) {
  if (s->held || s->out_len == 0) return;
  size_t taken = end_write(s->end, s->out, s->out_len);
  memmove(s->out, s->out + taken, s->out_len - taken);
  s->out_len -= taken;
}

static void put(struct session *s, const void *bytes, size_t len) {
  if (s->out_len + len > s->out_capacity) {
    s->out_capacity = (s->out_len + len) * 2;
    s->out = realloc(s->out, s->out_capacity);
    must(s->out != NULL);
  }
  memcpy(s->out + s->out_len, bytes, len);
  s->out_len += len;
}

static void ask(struct session *s, enum asked asked, const char *line) {
  must(s->asked_count < sizeof s->asked / sizeof s->asked[0]);
  s->asked[s->asked_count++] = asked;
  put(s, line, strlen(line));
}

/* ---- sessions ---- */

static unsigned number_of(const struct session *s) { return 1 + (unsigned)(s - client.sessions); }
/* Is it one that the relay may refuse for good? */
static bool is_listed(const struct session *s) { return settings_strangers() && dns_is_listed(number_of(s)); }

static void connect_again(void *context, uint64_t number);

static void close_session(struct session *s, bool reset) {
  if (!s->open) return;
  s->open = false;
  s->end->tell = NULL;
  if (reset) {
    end_abort(s->end);
  } else {
    end_close(s->end);
  }
  if (!client.stopped && client.left > 0) world_after(chance_spread(RECONNECT_NS / 4, RECONNECT_NS * 4), connect_again, s, 0);
}

/* ---- a message ---- */

static void say_mail(struct session *s) {
  char text[160], domain[32];
  struct fmt out = fmt_over(text, sizeof text);
  snprintf(domain, sizeof domain, "d%05u.test", (unsigned)chance(client.habits.domains));
  fmt_text(&out, "MAIL FROM:<");
  ledger_sender(s->message, domain, &out);
  fmt_text(&out, s->style == PLAIN && chance_once(3) ? "> BODY=8BITMIME\r\n" : ">\r\n");
  fmt_char(&out, '\0');
  ask(s, ASKED_MAIL, text);
}

static void say_rcpt(struct session *s) {
  char text[160];
  struct fmt out = fmt_over(text, sizeof text);
  fmt_text(&out, "RCPT TO:<");
  ledger_address(s->message, s->recipient++, &out);
  fmt_text(&out, ">\r\n");
  fmt_char(&out, '\0');
  ask(s, ASKED_RCPT, text);
}

static size_t content_size(void) { return (size_t)chance_spread(client.habits.size_low, client.habits.size_high); }

static void say_content(struct session *s) {
  if (chance_once(client.habits.leaves_in_data)) {
    put(s, s->content.at, chance(s->content.len));
    flush(s);
    close_session(s, chance_once(2));
    return;
  }
  if (chance_once(client.habits.dawdles)) s->held = true;
  put(s, s->content.at, s->content.len);
  if (s->illegal) put(s, "a bare\nline end\r\n", 17);
  if (!s->illegal) ledger_maybe(s->message);
  ask(s, ASKED_END, ".\r\n");
}

/* The same bytes unstuffed, in chunks. */
static void say_chunks(struct session *s) {
  uint8_t *plain = sim_alloc(s->content.len + 1);
  size_t len = 0;
  for (size_t i = 0; i < s->content.len; i++) {
    bool stuffing = s->content.at[i] == '.' && i > 0 && s->content.at[i - 1] == '\n';
    if (!stuffing) plain[len++] = s->content.at[i];
    if (stuffing) plain[len++] = s->content.at[++i];
  }
  bool leaves = chance_once(client.habits.leaves_in_data);
  if (!leaves) ledger_maybe(s->message);
  unsigned chunks = 0;
  for (size_t at = 0; at < len || at == 0;) {
    size_t part = chunks++ == 200 ? len - at : (size_t)chance_spread(1, len - at);
    bool last = at + part == len;
    char line[48];
    snprintf(line, sizeof line, "BDAT %zu%s\r\n", part, last ? " LAST" : "");
    ask(s, last ? ASKED_END : ASKED_CHUNK, line);
    put(s, plain + at, leaves && last ? part / 2 : part);
    at += part;
  }
  free(plain);
  if (!leaves) return;
  flush(s);
  close_session(s, chance_once(2));
}

/* With an alias in front now and then. */
static void choose_domain(enum fate fate, char *room, size_t size) {
  static const char *const bad[FATES][3] = {[FATE_REFUSED] = {"nx", "nullmx", "nx"}, [FATE_EXPIRES] = {"servfail", "silent", "loop"}};
  char alias[4] = "";
  if (chance_once(client.habits.aliases)) snprintf(alias, sizeof alias, "a%u.", 1 + (unsigned)chance(8));
  if (fate != FATE_DELIVERED && chance_once(3)) {
    const char *name = bad[fate][chance(3)];
    snprintf(room, size, "%s%s.test", strcmp(name, "loop") == 0 ? "" : alias, name);
  } else {
    snprintf(room, size, "%sd%05u.test", alias, (unsigned)chance(client.habits.domains));
  }
}

static void begin_message(struct session *s) {
  unsigned recipients = 1;
  if (client.habits.recipients_max > 1 && chance_once(3)) recipients = (unsigned)chance_spread(1, client.habits.recipients_max);
  s->message = ledger_new(recipients);
  s->recipients = recipients;
  s->recipient = 0;
  s->has_message = true;
  s->refused = false;
  s->illegal = chance_once(client.habits.refused_content);
  client.left--;
  client.sums.begun++;
  for (unsigned i = 0; i < recipients; i++) {
    enum fate fate = chance_once(client.habits.refused_once) ? FATE_REFUSED : chance_once(client.habits.expires_once) ? FATE_EXPIRES : FATE_DELIVERED;
    char domain[32];
    choose_domain(fate, domain, sizeof domain);
    ledger_recipient(s->message, i, fate, domain);
  }
  s->content = ledger_content(s->message, content_size(), chance_once(client.habits.eight_bit));
  trace("message %u begins, %u recipients, %zu bytes", s->message, recipients, s->content.len);
  s->style = s->illegal ? PLAIN : (enum style)chance(STYLES);
  say_mail(s);
  if (s->style == PLAIN) return;
  for (unsigned i = 0; i < recipients; i++) say_rcpt(s);
  if (s->style == PIPELINED) {
    ask(s, ASKED_DATA, "DATA\r\n");
  } else {
    say_chunks(s);
  }
}

/* Events are for what they were set for, or for nothing. */
static uint64_t stage(const struct session *s) { return (uint64_t)s->life << 32 | s->messages; }

static void next_message(void *context, uint64_t number) {
  struct session *s = context;
  if (!s->open || number != stage(s) || s->has_message || s->quits) return;
  if (client.stopped || client.left == 0 || s->messages >= client.habits.messages_per_session) {
    s->quits = true;
    ask(s, ASKED_QUIT, "QUIT\r\n");
  } else {
    s->messages++;
    begin_message(s);
  }
  if (s->open) flush(s);
}

static void pause_then_next(struct session *s) {
  s->has_message = false;
  world_after(chance_spread(client.habits.pause_low_ns, client.habits.pause_high_ns), next_message, s, stage(s));
}

/* ---- replies ---- */

static void refuse(struct session *s) {
  if (!s->refused) client.sums.refused++;
  s->refused = true;
}

/* Refused before its content: the envelope is given up. */
static void give_up(struct session *s) {
  ask(s, ASKED_RSET, "RSET\r\n");
  flush(s);
}

static void plain_next(struct session *s) {
  if (s->refused) {
    give_up(s);
  } else if (chance_once(client.habits.rset)) {
    give_up(s);
  } else if (s->recipient < s->recipients) {
    say_rcpt(s);
  } else {
    ask(s, ASKED_DATA, "DATA\r\n");
  }
}

static void end_answered(struct session *s, unsigned code) {
  if (code == 250) {
    if (s->illegal) fault("message %u has bare line ends and was taken", s->message);
    if (s->refused) fault("message %u was taken though not all of its envelope was", s->message);
    ledger_accepted(s->message);
  } else {
    if (s->illegal && code != 550 && code / 100 != 4) fault("message %u has bare line ends and was answered %u", s->message, code);
    if (!s->illegal && code / 100 == 5 && !s->refused) fault("message %u was refused for good: %u", s->message, code);
    refuse(s);
    ledger_refused(s->message);
  }
  pause_then_next(s);
}

static void data_answered(struct session *s, unsigned code) {
  if (code == 354 && !s->refused) {
    say_content(s);
  } else if (code == 354) { /* for some of its recipients only: not what was meant */
    close_session(s, true);
  } else {
    if (code / 100 == 5 && !s->refused) fault("DATA was answered %u", code);
    refuse(s);
    give_up(s);
  }
}

static void answered(struct session *s, enum asked asked, unsigned code) {
  bool good = code / 100 == 2;
  if (code == 421) {
    if (s->has_message) refuse(s);
    close_session(s, false);
    return;
  }
  switch (asked) {
  case ASKED_GREETING: ask(s, ASKED_EHLO, "EHLO source.example\r\n"); break;
  case ASKED_EHLO: pause_then_next(s); break;
  case ASKED_MAIL:
  case ASKED_RCPT:
    if (code / 100 == 5 && !s->refused && !is_listed(s)) fault("an envelope was answered %u", code);
    if (!good) refuse(s);
    if (s->style == PLAIN) plain_next(s);
    break;
  case ASKED_DATA: data_answered(s, code); break;
  case ASKED_CHUNK:
    if (!good) refuse(s);
    break;
  case ASKED_END: end_answered(s, code); break;
  case ASKED_RSET: pause_then_next(s); break;
  case ASKED_QUIT: close_session(s, false); break;
  }
}

/* Whole replies, all of their lines. */
static void read_replies(struct session *s) {
  size_t used = 0;
  while (s->open) {
    const char *line = s->in + used, *end;
    for (;;) { /* the last line has a space behind the code */
      end = memchr(line, '\n', s->in_len - (size_t)(line - s->in));
      if (end == NULL || (size_t)(end - line) < 4 || line[3] != '-') break;
      line = end + 1;
    }
    if (end == NULL) break;
    unsigned code = (unsigned)atoi(s->in + used);
    trace("client %d: %.*s", (int)(s - client.sessions), (int)(end - line > 70 ? 70 : end - line - 1), line);
    used = (size_t)(end + 1 - s->in);
    if (s->asked_count == 0 && code != 421) fault("the relay answers %u to nothing", code);
    enum asked asked = s->asked_count == 0 ? ASKED_QUIT : s->asked[0];
    if (s->asked_count > 0) memmove(s->asked, s->asked + 1, --s->asked_count * sizeof s->asked[0]);
    answered(s, asked, code);
  }
  memmove(s->in, s->in + used, s->in_len - used);
  s->in_len -= used;
}

static void go_on(void *context, uint64_t number) {
  struct session *s = context;
  if (!s->open || number != stage(s)) return;
  s->held = false;
  flush(s);
}

static void told(void *owner, struct end *end, enum net_news news) {
  struct session *s = owner;
  if (news == NET_REFUSED) {
    close_session(s, false);
    return;
  }
  if (news == NET_ROOM) flush(s);
  if (news != NET_ARRIVED) return;
  for (size_t got; s->open && (got = end_read(end, s->in + s->in_len, sizeof s->in - s->in_len)) > 0;) {
    s->in_len += got;
    bool held = s->held;
    read_replies(s);
    if (s->open && s->held && !held) world_after(chance_spread(SECOND_NS, 20 * SECOND_NS), go_on, s, stage(s));
    if (s->open) flush(s);
    if (s->open && s->has_message && chance_once(client.habits.leaves_behind_data * 10)) {
      trace("client %d resets", (int)(s - client.sessions));
      close_session(s, true);
    }
  }
  if (s->open && (end_is_over(end) || end_is_reset(end))) {
    client.sums.lost++;
    close_session(s, false);
  }
}

static void connect_again(void *context, uint64_t number) {
  (void)number;
  struct session *s = context;
  uint8_t *out = s->out;
  size_t capacity = s->out_capacity;
  if (client.stopped || client.left == 0) return;
  *s = (struct session){.open = true, .out = out, .out_capacity = capacity, .life = s->life + 1};
  struct netaddr from = {.family = 4, .bytes = {127, 0, 0, (uint8_t)number_of(s)}};
  if (settings_strangers()) memcpy(from.bytes, dns_stranger, sizeof dns_stranger);
  s->asked[s->asked_count++] = ASKED_GREETING;
  client.sums.sessions++;
  struct netaddr to = client.relay;
  if (settings_second_door() && chance_once(2)) to.port = SETTINGS_SECOND_DOOR;
  s->end = net_connect(&from, &to, told, s);
}

void client_open(const struct netaddr *relay, unsigned sessions, unsigned messages) {
  must(sessions <= SESSIONS_MAX);
  memset(&client, 0, sizeof client);
  client.relay = *relay;
  client.sessions_count = sessions;
  client.left = messages;
  for (unsigned i = 0; i < sessions; i++) world_after(chance_spread(MILLISECOND_NS, SECOND_NS), connect_again, &client.sessions[i], 0);
}
