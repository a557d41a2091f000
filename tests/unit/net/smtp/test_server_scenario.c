/*
 * Plays the sessions in tests/scenario/server/ against the server machine, each one fed in whole groups, octet by octet, and in pieces of 7 octets:
 * replies and events have to be the same each time. The lines of a session:
 *
 *   --- title             a new session begins
 *   options size=1000 recipients=10 messages=0 errors=20 idle=1000 room=65536 surplus=1000     before its first other line; any of them
 *   options auth clear authrequired starttls tlsrequired implicit     likewise: AUTH is there; without TLS; needed; STARTTLS is there; needed; TLS is on at once
 *   C: text               the client sends the text and CRLF
 *   C-raw: text           the client sends the text alone
 *   S: text               the server answers this line next; * stands for any text
 *   E: text               what the caller is told next, as event_text writes it; a group with one such line has to name all its events
 *   refuse EVENT code enhanced text      the caller will refuse the next MAIL, RCPT, DATA, END, TLS, AUTH or LINE; else it accepts. After an accepted STARTTLS
 *                         the handshake is done at once
 *   challenge text        the caller will answer the next AUTH or line of one with 334 and this
 *   shut enhanced text    the caller ends the session
 *   # text                a comment
 *
 * In the text \r \n \t \0 \\ \xHH stand for octets, and \*20(text) for the text, twenty times. All C lines up to the next S or E line
 * are one group, sent at once, and all S and E lines up to the next C line have to be all there is.
 */
#include "tests/lib/unit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/must.h"
#include "net/smtp/server.h"

#define SCENARIOS "tests/scenario/server"
#define FILES_MAX 64
#define TEXT_MAX (1 << 18)
#define EVENTS_MAX 4096

static char files[FILES_MAX][300];
static int files_count;

struct refusal {
  char event[8];
  unsigned code;
  char enhanced[16];
  char text[128];
};

struct play {
  const char *file;
  unsigned line_number;
  size_t step; /* octets fed at a time; 0: all */
  struct smtp_server_options options;
  size_t room;
  bool begun, closed;
  struct smtp_server server;
  struct refusal refusal; /* event empty: none */
  bool implicit;          /* TLS is on from the beginning */
  bool challenges;        /* `challenge` is the next answer */
  char challenge[200];
  uint8_t *group; /* what the client sends */
  size_t group_len;
  uint8_t *rest; /* what the machine left of it */
  size_t rest_len;
  uint8_t *replies; /* not matched yet */
  size_t replies_len, replies_at;
  char *events[EVENTS_MAX];
  unsigned events_count, events_at;
  bool events_named;
  uint8_t *content; /* of the CONTENT events since the last other one */
  size_t content_len;
};

#define broken(play, ...)                                                                                                                            \
  do {                                                                                                                                               \
    char why[20000];                                                                                                                                 \
    snprintf(why, sizeof why, __VA_ARGS__);                                                                                                          \
    ck_abort_msg("%s:%u (in pieces of %zu): %s", (play)->file, (play)->line_number, (play)->step, why);                                              \
  } while (0)

/* ---- text ---- */

/* Writes out the repetitions; these do not nest. */
static size_t expand(const char *text, char *out) {
  size_t len = 0;
  while (*text != '\0') {
    char *end = NULL;
    unsigned long count = strncmp(text, "\\*", 2) == 0 ? strtoul(text + 2, &end, 10) : 0;
    const char *close = end != NULL && *end == '(' ? strchr(end, ')') : NULL;
    if (close == NULL) {
      if (text[0] == '\\' && text[1] != '\0') out[len++] = *text++;
      out[len++] = *text++;
      continue;
    }
    for (; count > 0; count--) {
      must(len + (size_t)(close - end) < TEXT_MAX);
      memcpy(out + len, end + 1, (size_t)(close - end - 1));
      len += (size_t)(close - end - 1);
    }
    text = close + 1;
  }
  out[len] = '\0';
  return len;
}

static size_t unescape(const char *text, uint8_t *out) {
  static const char names[] = "r\rn\nt\t0\0\\\\";
  size_t len = 0;
  for (; *text != '\0'; text++) {
    const char *name = text[0] == '\\' ? memchr(names, text[1], sizeof names - 1) : NULL;
    if (name != NULL && (name - names) % 2 == 0) {
      out[len++] = (uint8_t)name[1];
      text++;
    } else if (strncmp(text, "\\x", 2) == 0) {
      char hex[3] = {text[2], text[3], '\0'};
      out[len++] = (uint8_t)strtoul(hex, NULL, 16);
      text += 3;
    } else {
      out[len++] = (uint8_t)*text;
    }
  }
  return len;
}

static size_t escape(struct span octets, char *out) {
  size_t len = 0;
  for (size_t i = 0; i < octets.len; i++) {
    uint8_t c = octets.at[i];
    if (c == '\r' || c == '\n' || c == '\\') {
      out[len++] = '\\';
      out[len++] = c == '\r' ? 'r' : c == '\n' ? 'n' : '\\';
    } else if (c < ' ' || c > '~') {
      len += (size_t)sprintf(out + len, "\\x%02x", c);
    } else {
      out[len++] = (char)c;
    }
  }
  out[len] = '\0';
  return len;
}

static bool matches(const char *pattern, const char *text) {
  const char *star = NULL, *retry = NULL;
  while (*text != '\0') {
    if (*pattern == '*') {
      star = pattern++;
      retry = text;
    } else if (*pattern == *text) {
      pattern++;
      text++;
    } else if (star != NULL) {
      pattern = star + 1;
      text = ++retry;
    } else {
      return false;
    }
  }
  while (*pattern == '*') pattern++;
  return *pattern == '\0';
}

/* ---- the caller ---- */

static void note(struct play *play, const char *text) {
  if (play->events_count == EVENTS_MAX) broken(play, "too many events");
  play->events[play->events_count++] = strdup(text);
}

/* CONTENT comes in pieces that depend on how the stream was cut: what is compared is all of it. */
static void note_content(struct play *play) {
  if (play->content_len == 0) return;
  char *text = malloc(4 * play->content_len + 16);
  strcpy(text, "CONTENT ");
  escape(span_of(play->content, play->content_len), text + 8);
  note(play, text);
  free(text);
  play->content_len = 0;
}

static const char *event_text(const struct play *play, enum smtp_server_event event) {
  static char text[16384];
  const struct smtp_server *s = &play->server;
  char a[8192], b[4096];
  switch (event) {
  case SMTP_SERVER_HELLO:
    escape(s->hello, a);
    snprintf(text, sizeof text, "HELLO %s %s", a, s->esmtp ? "EHLO" : "HELO");
    break;
  case SMTP_SERVER_MAIL:
    escape(s->mail.sender.whole, a);
    escape(s->mail.envid, b);
    snprintf(text, sizeof text, "MAIL <%s> size=%llu%s%s%s%s%s%s", a, (unsigned long long)s->mail.size,
             s->mail.body == SMTP_BODY_8BITMIME ? " 8bit" : "", s->mail.smtputf8 ? " utf8" : "", s->mail.require_tls ? " requiretls" : "",
             s->mail.ret == SMTP_RET_FULL      ? " full"
             : s->mail.ret == SMTP_RET_HEADERS ? " headers"
                                               : "",
             *b != '\0' ? " envid=" : "", b);
    break;
  case SMTP_SERVER_RCPT:
    escape(s->rcpt.recipient.whole, a);
    escape(s->rcpt.orcpt, b);
    snprintf(text, sizeof text, "RCPT <%s> notify=%u%s%s", a, s->rcpt.notify, *b != '\0' ? " orcpt=" : "", b);
    break;
  case SMTP_SERVER_DATA: snprintf(text, sizeof text, "%s recipients=%u", s->chunked ? "BDAT" : "DATA", s->recipients); break;
  case SMTP_SERVER_END:
    snprintf(text, sizeof text, "END size=%llu longest=%u%s%s", (unsigned long long)s->content_size, s->scan.longest_line,
             s->scan.eight_bit ? " 8bit" : "", s->scan.leading_dot ? " dot" : "");
    break;
  case SMTP_SERVER_STARTTLS: return "STARTTLS";
  case SMTP_SERVER_AUTH:
    escape(s->auth.mechanism, a);
    escape(s->auth.initial, b);
    snprintf(text, sizeof text, "AUTH %s%s%s", a, s->auth.initial_given ? " " : "", b);
    break;
  case SMTP_SERVER_AUTH_LINE:
    if (s->auth_line.len > 4000) return "LINE of many octets";
    escape(s->auth_line, a);
    snprintf(text, sizeof text, "LINE %s", a);
    break;
  case SMTP_SERVER_AUTH_OFF: return "AUTH_OFF";
  case SMTP_SERVER_RESET: return "RESET";
  case SMTP_SERVER_REFUSED: snprintf(text, sizeof text, "REFUSED %.3s", (const char *)s->refusal.at); break;
  case SMTP_SERVER_CLOSE: return "CLOSE";
  default: return "?";
  }
  return text;
}

static void decide(struct play *play, const char *event, struct fmt *out) {
  struct refusal *refusal = &play->refusal;
  if (strcmp(refusal->event, event) == 0) {
    smtp_server_refuse(&play->server, out, refusal->code, refusal->enhanced, refusal->text);
    refusal->event[0] = '\0';
  } else if (play->challenges && (strcmp(event, "AUTH") == 0 || strcmp(event, "LINE") == 0)) {
    play->challenges = false;
    smtp_server_challenge(&play->server, span_of_text(play->challenge), out);
  } else if (strcmp(event, "END") == 0) {
    smtp_server_accept_message(&play->server, 0x1234, out);
  } else {
    smtp_server_accept(&play->server, out);
  }
}

static void take_content(struct play *play) {
  must(play->content_len + play->server.content.len <= TEXT_MAX);
  memcpy(play->content + play->content_len, play->server.content.at, play->server.content.len);
  play->content_len += play->server.content.len;
}

/* True, if the machine wants to be called again. */
static bool handle(struct play *play, enum smtp_server_event event, struct fmt *out) {
  if (event == SMTP_SERVER_NEED_INPUT || event == SMTP_SERVER_FLUSH) return event == SMTP_SERVER_FLUSH;
  if (event == SMTP_SERVER_CONTENT) {
    take_content(play);
    return true;
  }
  if (event == SMTP_SERVER_RESET || event == SMTP_SERVER_REFUSED)
    play->content_len = 0; /* how much of illegal content was handed out depends on the cuts */
  note_content(play);
  note(play, event_text(play, event));
  if (event == SMTP_SERVER_STARTTLS) {
    bool refused = strcmp(play->refusal.event, "TLS") == 0;
    decide(play, "TLS", out);
    if (!refused) smtp_server_secured(&play->server);
  }
  if (event == SMTP_SERVER_AUTH) decide(play, "AUTH", out);
  if (event == SMTP_SERVER_AUTH_LINE) decide(play, "LINE", out);
  if (event == SMTP_SERVER_MAIL) decide(play, "MAIL", out);
  if (event == SMTP_SERVER_RCPT) decide(play, "RCPT", out);
  if (event == SMTP_SERVER_DATA) decide(play, "DATA", out);
  if (event == SMTP_SERVER_END) decide(play, "END", out);
  play->closed = event == SMTP_SERVER_CLOSE;
  return !play->closed;
}

static void take_replies(struct play *play, const struct fmt *out) {
  must(!out->overflow && play->replies_len + out->len <= TEXT_MAX);
  memcpy(play->replies + play->replies_len, out->at, out->len);
  play->replies_len += out->len;
}

/* ---- feeding ---- */

/* Gives the machine the rest of before and these octets behind it, in memory of exactly that length. */
static void feed(struct play *play, struct span octets) {
  size_t len = play->rest_len + octets.len;
  uint8_t *exact = malloc(len > 0 ? len : 1), *room = malloc(play->room);
  memcpy(exact, play->rest, play->rest_len);
  if (octets.len > 0) memcpy(exact + play->rest_len, octets.at, octets.len);
  struct span in = span_of(exact, len);
  bool again = !play->closed;
  while (again) {
    struct fmt out = fmt_over(room, play->room);
    do again = handle(play, smtp_server_next(&play->server, &in, &out), &out);
    while (again && fmt_room(&out) >= SMTP_REPLY_ROOM);
    take_replies(play, &out);
  }
  if (smtp_server_in_content(&play->server) && in.len > 0) broken(play, "in content %zu octets are left", in.len);
  if (in.len >= SMTP_AUTH_LINE_MAX) broken(play, "%zu octets are left", in.len);
  memcpy(play->rest, in.at, in.len);
  play->rest_len = in.len;
  free(exact);
  free(room);
}

static void begin(struct play *play) {
  uint8_t room[SMTP_REPLY_ROOM];
  struct fmt out = fmt_over(room, sizeof room);
  if (play->begun) return;
  play->begun = true;
  smtp_server_init(&play->server, &play->options, &out);
  if (play->implicit) smtp_server_secured(&play->server);
  take_replies(play, &out);
}

static void send_group(struct play *play) {
  struct span group = span_of(play->group, play->group_len);
  begin(play);
  while (group.len > 0) {
    struct span piece = span_first(group, play->step > 0 ? play->step : group.len);
    feed(play, piece);
    group = span_skip(group, piece.len);
  }
  play->group_len = 0;
}

/* Before the next group, and at the end: is everything named that happened? */
static void end_group(struct play *play) {
  if (play->group_len > 0) send_group(play);
  note_content(play);
  if (play->replies_at < play->replies_len)
    broken(play, "there is more: %.*s", (int)(play->replies_len - play->replies_at), (char *)play->replies + play->replies_at);
  if (play->events_named && play->events_at < play->events_count) broken(play, "there is more: %s", play->events[play->events_at]);
  for (unsigned i = 0; i < play->events_count; i++) free(play->events[i]);
  play->events_count = play->events_at = 0;
  play->events_named = false;
  play->replies_len = play->replies_at = 0;
}

/* ---- lines of a scenario ---- */

static void expect_reply(struct play *play, const char *pattern) {
  begin(play);
  if (play->group_len > 0) send_group(play);
  struct span rest = span_of(play->replies + play->replies_at, play->replies_len - play->replies_at);
  ptrdiff_t end = span_find(rest, '\n');
  if (end < 1 || rest.at[end - 1] != '\r') broken(play, "no reply instead of: %s", pattern);
  char text[8192];
  escape(span_first(rest, (size_t)end - 1), text);
  if (!matches(pattern, text)) broken(play, "%s\ninstead of: %s", text, pattern);
  play->replies_at += (size_t)end + 1;
}

static void expect_event(struct play *play, const char *pattern) {
  begin(play);
  if (play->group_len > 0) send_group(play);
  note_content(play);
  play->events_named = true;
  if (play->events_at == play->events_count) broken(play, "no event instead of: %s", pattern);
  const char *text = play->events[play->events_at++];
  if (!matches(pattern, text)) broken(play, "%s\ninstead of: %s", text, pattern);
}

static bool has_word(const char *text, const char *word) {
  size_t len = strlen(word);
  for (const char *at = text; (at = strstr(at, word)) != NULL; at += len)
    if ((at == text || at[-1] == ' ') && (at[len] == '\0' || at[len] == ' ')) return true;
  return false;
}

static void set_options(struct play *play, const char *text) {
  static const char *const names[] = {"size=", "recipients=", "messages=", "errors=", "idle=", "room=", "surplus="};
  unsigned long values[] = {play->options.message_size_max, 10, 0, 20, 1000, play->room, 1000};
  for (unsigned i = 0; i < 7; i++) {
    const char *at = strstr(text, names[i]);
    if (at != NULL) values[i] = strtoul(at + strlen(names[i]), NULL, 10);
  }
  play->options = (struct smtp_server_options){.hostname = SPAN("relay.example"),
                                               .message_size_max = values[0],
                                               .recipients_max = (uint32_t)values[1],
                                               .messages_max = (uint32_t)values[2],
                                               .errors_max = (uint32_t)values[3],
                                               .idle_commands_max = (uint32_t)values[4],
                                               .surplus_max = (uint32_t)values[6],
                                               .auth_mechanisms = has_word(text, "auth") ? SPAN("PLAIN LOGIN") : span_of(NULL, 0),
                                               .auth_in_clear = has_word(text, "clear"),
                                               .auth_required = has_word(text, "authrequired"),
                                               .starttls = has_word(text, "starttls"),
                                               .tls_required = has_word(text, "tlsrequired")};
  play->implicit = has_word(text, "implicit");
  play->room = values[5];
}

static void new_session(struct play *play) {
  end_group(play);
  play->begun = play->closed = false;
  play->rest_len = 0;
  play->refusal.event[0] = '\0';
  play->challenges = false;
  play->options.message_size_max = 1000;
  play->room = 65536;
  set_options(play, "");
}

static void shut(struct play *play, const char *text) {
  uint8_t room[SMTP_REPLY_ROOM];
  struct fmt out = fmt_over(room, sizeof room);
  char enhanced[16] = "";
  int at = 0;
  sscanf(text, "%15s %n", enhanced, &at);
  end_group(play);
  begin(play);
  smtp_server_shut(&play->server, enhanced, text + at, &out);
  take_replies(play, &out);
  feed(play, span_of(NULL, 0));
}

static const char *after(const char *line, const char *prefix) { return strncmp(line, prefix, strlen(prefix)) == 0 ? line + strlen(prefix) : NULL; }

static void play_line(struct play *play, const char *line) {
  const char *text;
  if (*line == '#' || *line == '\0') return;
  bool client = after(line, "C: ") != NULL || after(line, "C-raw: ") != NULL || strcmp(line, "C:") == 0;
  if (client && play->group_len == 0) end_group(play);
  if (after(line, "---")) {
    new_session(play);
  } else if ((text = after(line, "options ")) != NULL) {
    set_options(play, text);
  } else if ((text = after(line, "C-raw: ")) != NULL) {
    play->group_len += unescape(text, play->group + play->group_len);
  } else if (client) {
    play->group_len += unescape(line[2] == ' ' ? line + 3 : "", play->group + play->group_len);
    play->group_len += unescape("\\r\\n", play->group + play->group_len);
  } else if ((text = after(line, "S: ")) != NULL) {
    expect_reply(play, text);
  } else if ((text = after(line, "E: ")) != NULL) {
    expect_event(play, text);
  } else if ((text = after(line, "shut ")) != NULL) {
    shut(play, text);
  } else if ((text = after(line, "challenge ")) != NULL || strcmp(line, "challenge") == 0) {
    snprintf(play->challenge, sizeof play->challenge, "%s", text != NULL ? text : "");
    play->challenges = true;
  } else if (sscanf(line, "refuse %7s %u %15s %127[^\n]", play->refusal.event, &play->refusal.code, play->refusal.enhanced, play->refusal.text) !=
             4) {
    broken(play, "what is this? %s", line);
  }
}

static void play_file(const char *path, size_t step) {
  static struct play play;
  char *line = NULL, *expanded = malloc(TEXT_MAX + 1);
  size_t room = 0;
  FILE *file = fopen(path, "r");
  ck_assert_msg(file != NULL, "%s: cannot be read", path);
  play = (struct play){.file = path,
                       .step = step,
                       .group = malloc(TEXT_MAX),
                       .rest = malloc(SMTP_AUTH_LINE_MAX),
                       .replies = malloc(TEXT_MAX),
                       .content = malloc(TEXT_MAX)};
  new_session(&play);
  for (ssize_t len; (len = getline(&line, &room, file)) > 0;) {
    if (line[len - 1] == '\n') line[len - 1] = '\0';
    play.line_number++;
    must(play.group_len + expand(line, expanded) + 2 <= TEXT_MAX);
    play_line(&play, expanded);
  }
  end_group(&play);
  fclose(file);
  free(line);
  free(expanded);
  free(play.group);
  free(play.rest);
  free(play.replies);
  free(play.content);
}

START_TEST(scenario) {
  play_file(files[_i], 0);
  play_file(files[_i], 1);
  play_file(files[_i], 7);
}
END_TEST

START_TEST(there_are_scenarios) { ck_assert_int_gt(files_count, 5); }
END_TEST

int main(void) {
  DIR *dir = opendir(SCENARIOS);
  for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL && files_count < FILES_MAX;)
    if (strstr(entry->d_name, ".txt") != NULL) snprintf(files[files_count++], sizeof files[0], SCENARIOS "/%s", entry->d_name);
  if (dir != NULL) closedir(dir);
  TCase *tests = tcase_create("scenario");
  tcase_add_test(tests, there_are_scenarios);
  tcase_add_loop_test(tests, scenario, 0, files_count);
  return unit_main("net/smtp/server scenarios", &tests, 1);
}
