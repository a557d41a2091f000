/*
 * Plays the text scripts of tests/scenario/client on the client machine, each once with the server's bytes in one piece and once byte by byte.
 *
 *   # comment
 *   options pipelining pipeline-messages chunking     what the machine may do; none of them unless said (first line of a script)
 *   S: 250 text                                       the server says this line
 *   C: MAIL FROM:<a@b.test>                           the next line that the machine writes
 *   begin TAG from=A to=B [to=..] [size=N] [8bit] [utf8] [leading-dot] [ret=full|hdrs] [envid=X] [notify=N] [orcpt=X]
 *                                                     notify= and orcpt= belong to the to= before them; from= alone is <>
 *   content sent TAG
 *   quit, starttls, secured, auth NAME PASSWORD
 *   expect EVENT [TAG] [RECIPIENT] [CODE]             the next event; AHEAD TAG is smtp_client_begin returning true; BROKEN WHY
 *   stage TEXT, can-begin yes|no, recipients-max N, dot TAG yes|no, fit ok|size|8bit|utf8|requiretls ATTRIBUTES..
 *
 * Whatever was written and whatever happened has to be asked for, in its order, before the script goes on to act.
 */
#include "net/smtp/client.h"
#include "net/smtp/server.h"
#include "tests/lib/unit.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#define SCRIPTS "tests/scenario/client/*.txt"
#define TAGS 8
#define RECIPIENTS 4
#define EVENTS 64

struct play {
  const char *path;
  unsigned line;
  bool dribble; /* one byte at a time */
  struct smtp_client_options options;
  struct smtp_client client;
  bool started;
  char in[65536];
  size_t in_len, in_used;
  struct fmt out;
  uint8_t out_room[65536];
  size_t out_seen;
  char events[EVENTS][128];
  unsigned event_count, event_seen;
  struct smtp_client_envelope envelopes[TAGS];
  struct smtp_client_recipient recipients[TAGS][RECIPIENTS];
  struct fmt strings; /* what the envelopes borrow */
  uint8_t strings_room[65536];
};

#define script_fails(play, format, ...)                                                                                                              \
  ck_abort_msg("%s:%u (%s): " format, (play)->path, (play)->line, (play)->dribble ? "byte by byte" : "in one piece", __VA_ARGS__)

static void note(struct play *p, const char *text) {
  if (p->event_count == EVENTS) script_fails(p, "%s", "too many events");
  snprintf(p->events[p->event_count++], sizeof p->events[0], "%s", text);
}

static void note_event(struct play *p, enum smtp_client_event event) {
  const struct smtp_client *c = &p->client;
  char text[128];
  switch (event) {
  case SMTP_CLIENT_READY: snprintf(text, sizeof text, "READY"); break;
  case SMTP_CLIENT_TLS: snprintf(text, sizeof text, "TLS"); break;
  case SMTP_CLIENT_TLS_REFUSED: snprintf(text, sizeof text, "TLS_REFUSED %u", c->reply.code); break;
  case SMTP_CLIENT_AUTHENTICATED: snprintf(text, sizeof text, "AUTHENTICATED"); break;
  case SMTP_CLIENT_AUTH_REFUSED: snprintf(text, sizeof text, "AUTH_REFUSED %u", c->reply.code); break;
  case SMTP_CLIENT_REFUSED: snprintf(text, sizeof text, "REFUSED %u", c->reply.code); break;
  case SMTP_CLIENT_MAIL: snprintf(text, sizeof text, "MAIL %u %u", c->tag, c->reply.code); break;
  case SMTP_CLIENT_RCPT: snprintf(text, sizeof text, "RCPT %u %u %u", c->tag, c->recipient, c->reply.code); break;
  case SMTP_CLIENT_DATA: snprintf(text, sizeof text, "DATA %u %u", c->tag, c->reply.code); break;
  case SMTP_CLIENT_CONTENT: snprintf(text, sizeof text, "CONTENT %u", c->tag); break;
  case SMTP_CLIENT_FINAL: snprintf(text, sizeof text, "FINAL %u %u", c->tag, c->reply.code); break;
  case SMTP_CLIENT_DONE: snprintf(text, sizeof text, "DONE %u", c->tag); break;
  case SMTP_CLIENT_BROKEN: snprintf(text, sizeof text, "BROKEN %s", c->broken); break;
  default: script_fails(p, "impossible event %d", (int)event);
  }
  note(p, text);
}

/* Lets the machine read all that the server has said up to `end`. */
static void pump(struct play *p, size_t end) {
  struct span in = span_of(p->in + p->in_used, end - p->in_used);
  enum smtp_client_event event;
  while ((event = smtp_client_next(&p->client, &in, &p->out)) != SMTP_CLIENT_NEED_INPUT) note_event(p, event);
  p->in_used = end - in.len;
}

static void start(struct play *p) {
  if (p->started) return;
  smtp_client_init(&p->client, &p->options);
  p->started = true;
}

/* What the server said since: in one piece, or growing by a byte. Also run without anything new, for a reply that was left in the input. */
static void listen(struct play *p, size_t *heard) {
  start(p);
  while (p->dribble && *heard < p->in_len) pump(p, ++*heard);
  *heard = p->in_len;
  pump(p, p->in_len);
}

static void nothing_may_be_left(struct play *p) {
  if (p->event_seen < p->event_count) script_fails(p, "event not asked for: %s", p->events[p->event_seen]);
  if (p->out_seen < p->out.len) script_fails(p, "output not asked for: %.*s", (int)(p->out.len - p->out_seen), (char *)p->out_room + p->out_seen);
}

static void expect_line(struct play *p, const char *text) {
  struct span left = span_of(p->out_room + p->out_seen, p->out.len - p->out_seen);
  ptrdiff_t end = span_find(left, '\n');
  if (end < 1 || left.at[end - 1] != '\r') script_fails(p, "nothing written, expected: %s", text);
  struct span line = span_first(left, (size_t)end - 1);
  if (!span_equal(line, span_of_text(text))) script_fails(p, "written: %.*s, expected: %s", (int)line.len, (const char *)line.at, text);
  p->out_seen += (size_t)end + 1;
}

static void expect_event(struct play *p, const char *text) {
  const char *got = p->event_seen < p->event_count ? p->events[p->event_seen++] : "nothing";
  if (strcmp(got, text) != 0) script_fails(p, "happened: %s, expected: %s", got, text);
}

static uint32_t tag_take(struct play *p, char **words) {
  char *word = strsep(words, " ");
  unsigned long tag = word == NULL ? TAGS : strtoul(word, NULL, 10);
  if (tag >= TAGS) script_fails(p, "no tag, or above %d", TAGS - 1);
  return (uint32_t)tag;
}

static const char *value_of(const char *word, const char *name) { return strncmp(word, name, strlen(name)) == 0 ? word + strlen(name) : NULL; }

static struct span keep(struct play *p, const char *text) {
  size_t from = p->strings.len;
  fmt_text(&p->strings, text);
  ck_assert(!p->strings.overflow);
  return span_skip(fmt_span(&p->strings), from);
}

static void envelope_read(struct play *p, struct smtp_client_envelope *envelope, struct smtp_client_recipient *recipients, char *words) {
  const char *v;
  *envelope = (struct smtp_client_envelope){.recipient = recipients};
  for (char *word; (word = strsep(&words, " ")) != NULL;) {
    struct smtp_client_recipient *last = &recipients[envelope->recipients == 0 ? 0 : envelope->recipients - 1];
    if ((v = value_of(word, "from="))) {
      envelope->sender = keep(p, v);
    } else if ((v = value_of(word, "to="))) {
      if (envelope->recipients == RECIPIENTS) script_fails(p, "more than %d recipients", RECIPIENTS);
      recipients[envelope->recipients++] = (struct smtp_client_recipient){.address = keep(p, v)};
    } else if ((v = value_of(word, "notify="))) {
      last->notify = (uint8_t)atoi(v);
    } else if ((v = value_of(word, "orcpt="))) {
      last->orcpt = keep(p, v);
    } else if ((v = value_of(word, "size="))) {
      envelope->size = strtoull(v, NULL, 10);
    } else if ((v = value_of(word, "envid="))) {
      envelope->envid = keep(p, v);
    } else if ((v = value_of(word, "ret="))) {
      envelope->ret = strcmp(v, "full") == 0 ? SMTP_RET_FULL : SMTP_RET_HEADERS;
    } else if (strcmp(word, "8bit") == 0) {
      envelope->eight_bit = true;
    } else if (strcmp(word, "utf8") == 0) {
      envelope->smtputf8 = true;
    } else if (strcmp(word, "requiretls") == 0) {
      envelope->require_tls = true;
    } else if (strcmp(word, "leading-dot") == 0) {
      envelope->leading_dot = true;
    } else {
      script_fails(p, "unknown attribute: %s", word);
    }
  }
}

static void do_begin(struct play *p, char *words) {
  uint32_t tag = tag_take(p, &words);
  struct smtp_client_envelope *envelope = &p->envelopes[tag];
  envelope_read(p, envelope, p->recipients[tag], words);
  if (!smtp_client_can_begin(&p->client)) script_fails(p, "transaction %u cannot begin", tag);
  struct fmt out = fmt_over(p->out_room + p->out.len, smtp_client_begin_room(envelope)); /* exactly the room that is promised to do */
  bool ahead = smtp_client_begin(&p->client, envelope, tag, &out);
  p->out.len += out.len;
  char text[32];
  snprintf(text, sizeof text, "AHEAD %u", tag);
  if (ahead) note(p, text);
}

static void check_fit(struct play *p, char *words) {
  static const char *const names[] = {
      [SMTP_FIT] = "ok", [SMTP_UNFIT_SIZE] = "size", [SMTP_UNFIT_8BIT] = "8bit", [SMTP_UNFIT_UTF8] = "utf8", [SMTP_UNFIT_TLS] = "requiretls"};
  struct smtp_client_envelope envelope;
  struct smtp_client_recipient recipients[RECIPIENTS];
  const char *expected = strsep(&words, " ");
  envelope_read(p, &envelope, recipients, words);
  const char *got = names[smtp_client_fit(&p->client, &envelope)];
  if (strcmp(expected, got) != 0) script_fails(p, "fit: %s, expected: %s", got, expected);
}

static void check_word(struct play *p, const char *got, const char *expected) {
  if (strcmp(got, expected) != 0) script_fails(p, "it is: %s, expected: %s", got, expected);
}

static void check_dot(struct play *p, char *words) {
  uint32_t tag = tag_take(p, &words);
  check_word(p, smtp_client_wants_dot(&p->client, tag) ? "yes" : "no", words);
}

static void check_recipients_max(struct play *p, char *words) {
  char text[16];
  snprintf(text, sizeof text, "%u", smtp_client_recipients_max(&p->client));
  check_word(p, text, words);
}

static void do_options(struct play *p, char *words) {
  if (p->started) script_fails(p, "%s", "options after the start");
  for (char *word; (word = strsep(&words, " ")) != NULL;) {
    if (strcmp(word, "pipelining") == 0)
      p->options.pipelining = true;
    else if (strcmp(word, "pipeline-messages") == 0)
      p->options.pipeline_messages = true;
    else if (strcmp(word, "chunking") == 0)
      p->options.chunking = true;
    else
      script_fails(p, "unknown option: %s", word);
  }
}

static void do_server(struct play *p, const char *text) {
  nothing_may_be_left(p);
  int len = snprintf(p->in + p->in_len, sizeof p->in - p->in_len, "%s\r\n", text);
  p->in_len += (size_t)len;
}

static void do_content_sent(struct play *p, char *words) {
  nothing_may_be_left(p);
  smtp_client_content_sent(&p->client, tag_take(p, &words));
}

static void do_quit(struct play *p, char *words) {
  (void)words;
  nothing_may_be_left(p);
  smtp_client_quit(&p->client, &p->out);
}

static void do_starttls(struct play *p, char *words) {
  (void)words;
  nothing_may_be_left(p);
  smtp_client_starttls(&p->client, &p->out);
}

static void do_secured(struct play *p, char *words) {
  (void)words;
  nothing_may_be_left(p);
  smtp_client_secured(&p->client, &p->out);
}

static void do_auth(struct play *p, char *words) {
  nothing_may_be_left(p);
  struct span name = keep(p, strsep(&words, " ")), password = keep(p, words);
  smtp_client_auth(&p->client, name, password, &p->out);
}

static void check_line(struct play *p, char *text) { expect_line(p, text); }
static void check_event(struct play *p, char *text) { expect_event(p, text); }
static void check_stage(struct play *p, char *text) { check_word(p, smtp_client_stage_text(smtp_client_stage(&p->client)), text); }
static void check_can_begin(struct play *p, char *text) { check_word(p, smtp_client_can_begin(&p->client) ? "yes" : "no", text); }

static const struct {
  const char *prefix;
  void (*act)(struct play *p, char *rest);
} directives[] = {
    {"C: ", check_line},
    {"expect ", check_event},
    {"stage ", check_stage},
    {"begin ", do_begin},
    {"content sent ", do_content_sent},
    {"can-begin ", check_can_begin},
    {"fit ", check_fit},
    {"dot ", check_dot},
    {"recipients-max ", check_recipients_max},
    {"options ", do_options},
    {"quit", do_quit},
    {"starttls", do_starttls},
    {"secured", do_secured},
    {"auth ", do_auth},
};

static void directive_run(struct play *p, char *line, size_t *heard) {
  if (strncmp(line, "S: ", 3) == 0) {
    do_server(p, line + 3);
    return;
  }
  for (size_t i = 0; i < sizeof directives / sizeof directives[0]; i++) {
    char *rest = (char *)value_of(line, directives[i].prefix);
    if (rest == NULL) continue;
    if (directives[i].act != do_options) listen(p, heard);
    if (directives[i].act == do_begin) nothing_may_be_left(p);
    directives[i].act(p, rest);
    return;
  }
  script_fails(p, "unknown directive: %s", line);
}

static void play_script(const char *path, bool dribble) {
  struct play *p = calloc(1, sizeof *p);
  FILE *file = fopen(path, "r");
  ck_assert_msg(file != NULL && p != NULL, "%s cannot be read", path);
  *p = (struct play){.path = path, .dribble = dribble, .options = {.hostname = SPAN("relay.example.net")}};
  p->out = fmt_over(p->out_room, sizeof p->out_room);
  p->strings = fmt_over(p->strings_room, sizeof p->strings_room);
  char line[4096];
  size_t heard = 0;
  while (fgets(line, sizeof line, file) != NULL) {
    p->line++;
    line[strcspn(line, "\n")] = '\0';
    if (line[0] != '#' && line[0] != '\0') directive_run(p, line, &heard);
  }
  listen(p, &heard);
  nothing_may_be_left(p);
  if (p->in_used != p->in_len) script_fails(p, "%zu bytes were not read", p->in_len - p->in_used);
  fclose(file);
  free(p);
}

static glob_t scripts(void) {
  glob_t found = {0};
  return glob(SCRIPTS, 0, NULL, &found) == 0 ? found : (glob_t){0};
}

START_TEST(script) {
  glob_t found = scripts();
  ck_assert_msg(found.gl_pathc > 0, "no scripts in " SCRIPTS);
  play_script(found.gl_pathv[_i / 2], _i % 2 == 1);
  globfree(&found);
}
END_TEST

int main(void) {
  glob_t found = scripts();
  TCase *cases[] = {tcase_create("scripts")};
  tcase_add_loop_test(cases[0], script, 0, found.gl_pathc == 0 ? 1 : (int)found.gl_pathc * 2);
  globfree(&found);
  return unit_main("net/smtp/client_scenario", cases, 1);
}
