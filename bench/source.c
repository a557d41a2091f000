/*
 * source: a load generator for mail relays. Injects numbered messages over many SMTP sessions, measures what the relay takes and how fast it
 * answers. The counterpart of sink, which finds out what became of the messages.
 */
#include "bench/lib/client.h"
#include "bench/lib/counter.h"
#include "bench/lib/options.h"
#include "bench/lib/report.h"
#include "core/base/error.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  THREADS_MAX = 64,
  RECIPIENTS_MAX = 10000,
  SIZE_MIN = 512, /* the header has to fit in */
  TICK_NS = 100000000,
};

enum { TLS_NONE, TLS_STARTTLS, TLS_IMPLICIT }; /* --tls */

struct settings {
  const char *to, *from, *hostname, *pattern;
  uint64_t sessions, messages, duration_ns, messages_per_session, size, recipients, domains;
  uint64_t rate, settle_ns, idle, threads, retry_after_ns, timeout_ns;
  unsigned way, order, tls;
  bool chunking, spread, tls_full, no_retry, json, progress;
};

struct source {
  struct settings settings;
  struct client client;
  struct content_block block;
  char date[64];
  struct client_thread *threads;
};

/* ---- the start ---- */

static void read_arguments(struct settings *s, int argc, char **argv) {
  const struct option table[] = {
      {NULL, OPTION_TITLE, NULL, NULL, "How much, how fast", NULL},
      {"to", OPTION_TEXT, &s->to, "HOST:PORT", "the relay (default 127.0.0.1:2525)", NULL},
      {"messages", OPTION_COUNT, &s->messages, "N", "how many; with suffix k or M (default 10000, with --duration no limit)", NULL},
      {"duration", OPTION_DURATION, &s->duration_ns, "TIME",
       "for how long (default: until all messages are in); what is under way or deferred then\n"
       "has 5 s more, and is given up",
       NULL},
      {"sessions", OPTION_COUNT, &s->sessions, "N", "that send at the same time (default 100); 0: none, --idle ones are held until SIGTERM", NULL},
      {"messages-per-session", OPTION_COUNT, &s->messages_per_session, "N", "then QUIT and connect anew (default 0: never)", NULL},
      {"rate", OPTION_COUNT, &s->rate, "N",
       "messages a second, on a fixed schedule: latency counts from the time a message\n"
       "was due, so a relay that falls behind is not spared (default 0: as fast as it answers)",
       NULL},
      {"settle", OPTION_DURATION, &s->settle_ns, "TIME", "latency is of messages after that alone, when sessions are there (default 0)", NULL},
      {"idle", OPTION_COUNT, &s->idle, "N", "more sessions that are only held open (default 0)", NULL},
      {"threads", OPTION_COUNT, &s->threads, "N", "threads to send from (default 1)", NULL},
      {NULL, OPTION_TITLE, NULL, NULL, "Messages", NULL},
      {"size", OPTION_SIZE, &s->size, "BYTES", "of the whole content, header and body (default 4KiB)", NULL},
      {"recipients", OPTION_COUNT, &s->recipients, "N", "of each message (default 1)", NULL},
      {"domains", OPTION_COUNT, &s->domains, "N", "that recipients are in (default 100)", NULL},
      {"domain-pattern", OPTION_TEXT, &s->pattern, "PATTERN", "their names (default d%05d.test)", NULL},
      {"domain-order", OPTION_CHOICE, &s->order, NULL, "how messages go over the domains (default round-robin)", "round-robin|random"},
      {"spread", OPTION_FLAG, &s->spread, NULL, "the recipients of one message go over the domains, too", NULL},
      {"from", OPTION_TEXT, &s->from, "ADDRESS", "reverse-path and From (default sender@source.test)", NULL},
      {NULL, OPTION_TITLE, NULL, NULL, "SMTP", NULL},
      {"pipelining", OPTION_CHOICE, &s->way, NULL,
       "none: each command waits for its reply\n"
       "command: MAIL, RCPT.., DATA in one write, then the content (default)\n"
       "message: the content and the next message's MAIL, RCPT.., DATA in one write",
       "none|command|message"},
      {"chunking", OPTION_FLAG, &s->chunking, NULL, "BDAT; except with none, envelope and content in one write", NULL},
      {"helo", OPTION_TEXT, &s->hostname, "NAME", "said in EHLO (default source.test)", NULL},
      {"tls", OPTION_CHOICE, &s->tls, NULL,
       "TLS in all sessions, whatever the certificate, or else nothing is sent (default none); each new\n"
       "connection resumes the TLS session of one that has ended",
       "none|starttls|implicit"},
      {"tls-full", OPTION_FLAG, &s->tls_full, NULL, "a whole handshake in each connection", NULL},
      {"retry-after", OPTION_DURATION, &s->retry_after_ns, "TIME", "send what was deferred (4xx) or cut off again after that (default 1s)", NULL},
      {"no-retry", OPTION_FLAG, &s->no_retry, NULL, "do not: count it as given up", NULL},
      {"timeout", OPTION_DURATION, &s->timeout_ns, "TIME", "fail when no reply comes for so long (default 60s)", NULL},
      {NULL, OPTION_TITLE, NULL, NULL, "Report", NULL},
      {"progress", OPTION_FLAG, &s->progress, NULL, "a line each second on standard error, even if it is no terminal", NULL},
      {"json", OPTION_FLAG, &s->json, NULL, "report as JSON", NULL},
  };
  const struct option_usage usage = {
      "source", "[--to HOST:PORT] [OPTION]...",
      "Injects numbered messages into a mail relay over many SMTP sessions, and reports how many it took, how fast, and how\n"
      "long each was under way from MAIL to the final reply. `sink`, behind the relay, finds out what became of them.",
      "Recipient n of a run is user-<n>@<domain>; message m has recipients m*R to m*R + R - 1. The header has a stamp that sink\n"
      "reads, X-Bench: run, sequence number, time of injection, messages and recipients of the run, size of the body.\n"
      "With --pipelining message the next MAIL goes out behind the content of the message before, and latency counts from there.\n"
      "With --sessions 0 a line that begins with `ready` on standard error says that the relay has greeted all --idle sessions; at\n"
      "SIGTERM, or after --duration, they say QUIT.\n\n"
      "Exit status: 0 every message was accepted; 1 some were refused, given up or not sent, or a failure; 2 wrong usage."};
  options_run(&usage, table, sizeof table / sizeof *table, argc, argv);
}

__attribute__((noreturn)) static void usage_error(const char *option, const char *why) {
  fprintf(stderr, "source: --%s: %s (see source --help)\n", option, why);
  exit(2);
}

static void need(const char *option, bool fine, const char *why) {
  if (!fine) usage_error(option, why);
}

/* Nothing is sent: the idle sessions are all there is. */
static bool only_holds(const struct settings *s) { return s->sessions == 0 && s->idle >= s->threads; }

static void check_settings(struct settings *s) {
  need("threads", s->threads >= 1 && s->threads <= THREADS_MAX, "from 1 to 64");
  need("sessions", (s->sessions >= s->threads || only_holds(s)) && s->sessions < 1000000, "from 1 (for each thread; 0 with --idle) to 999999");
  need("messages", !only_holds(s) || s->messages == 0, "not with --sessions 0");
  need("idle", s->idle < 1000000, "at most 999999");
  need("size", s->size >= SIZE_MIN && s->size <= SENDER_SIZE_MAX, "from 512 to 78MiB");
  need("recipients", s->recipients >= 1 && s->recipients <= RECIPIENTS_MAX, "from 1 to 10000");
  need("domains", s->domains >= 1, "at least 1");
  need("from", strlen(s->from) <= DOMAIN_NAME_MAX && strpbrk(s->from, "<>\r\n") == NULL, "an address without < and >");
  need("tls-full", !s->tls_full || s->tls != TLS_NONE, "needs --tls");
  need("helo", strlen(s->hostname) <= DOMAIN_NAME_MAX && strpbrk(s->hostname, " \r\n") == NULL, "a host name");
  need("sessions", s->sessions + s->idle + 32 < process_raise_files(), "with --idle more than the limit of open files allows (ulimit -n)");
  if (s->messages == 0 && s->duration_ns == 0 && !only_holds(s)) s->messages = 10000;
}

static void set_up_tls(struct source *source) {
  uint8_t room[256], none[1];
  struct fmt why = fmt_over(room, sizeof room), warnings = fmt_over(none, 0);
  const struct settings *s = &source->settings;
  const struct tls_client_config config = {0};
  if (s->tls == TLS_NONE) return;
  int error = tls_init(TLS_LIBCRYPTO, &why);
  if (error == E_OK) error = tls_client_new(&source->client.tls, &config, process_wall_ms(), &why, &warnings);
  if (error != E_OK) process_fail("source", "no TLS: %.*s", (int)why.len, (const char *)why.at);
  source->client.tls_full = s->tls_full;
  source->client.plan.starttls = s->tls == TLS_STARTTLS;
}

static void set_up(struct source *source) {
  const struct settings *s = &source->settings;
  struct client *client = &source->client;
  struct fmt date = fmt_over(source->date, sizeof source->date);
  const char *why;
  if (endpoint_parse(&client->to, s->to, &why) < 0) usage_error("to", why);
  if (domains_parse(&client->plan.domains, span_of_text(s->pattern)) < 0) usage_error("domain-pattern", "needs one %d or %0Nd in a name");
  content_block_fill(&source->block);
  fmt_date(&date, process_wall_ms());
  struct sender_plan *plan = &client->plan;
  plan->way = s->way;
  plan->chunking = s->chunking;
  plan->run = process_random();
  plan->messages = s->messages;
  plan->size = s->size;
  plan->recipients = (uint32_t)s->recipients;
  plan->spread = s->spread;
  plan->order = s->order;
  plan->domain_count = s->domains;
  plan->messages_per_session = s->messages_per_session;
  plan->from = span_of_text(s->from);
  plan->hostname = span_of_text(s->hostname);
  plan->date = fmt_span(&date);
  plan->block = &source->block;
  client->threads = (unsigned)s->threads;
  client->sessions = (uint32_t)s->sessions;
  client->idle = (uint32_t)s->idle;
  client->rate = s->rate;
  client->retry_after_ns = s->retry_after_ns;
  client->timeout_ns = s->timeout_ns;
  client->no_retry = s->no_retry;
  set_up_tls(source);
}

static void start_threads(struct source *source, pthread_t *ids) {
  struct client *client = &source->client;
  source->threads = calloc(client->threads, sizeof *source->threads);
  must(source->threads != NULL);
  client->started_ns = process_now_ns();
  client->plan.timed_from_ns = client->started_ns + source->settings.settle_ns;
  client->stop_taking_ns = source->settings.duration_ns > 0 ? client->started_ns + source->settings.duration_ns : UINT64_MAX;
  for (unsigned i = 0; i < client->threads; i++) {
    source->threads[i].client = client;
    source->threads[i].number = i;
    source->threads[i].end = CLIENT_RUNNING;
    must(pthread_create(&ids[i], NULL, client_run, &source->threads[i]) == 0);
  }
}

/* ---- figures ---- */

static uint64_t sum_of(const struct source *source, size_t offset) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < source->client.threads; i++) sum += counter_read((const uint64_t *)((const char *)&source->threads[i] + offset));
  return sum;
}
#define SUM(source, field) sum_of((source), offsetof(struct client_thread, field))
#define SUM_STAT(source, field) sum_of((source), offsetof(struct client_thread, stats) + offsetof(struct sender_stats, field))

static void print_progress(const struct source *source, uint64_t now_ns, uint64_t *before) {
  uint64_t accepted = SUM_STAT(source, accepted);
  fprintf(stderr, "source seconds=%.0f accepted=%llu rate=%llu sessions=%llu refused=%llu deferred=%llu\n",
          (double)(now_ns - source->client.started_ns) / 1e9, (unsigned long long)accepted, (unsigned long long)(accepted - *before),
          (unsigned long long)SUM(source, open), (unsigned long long)SUM_STAT(source, refused_recipients),
          (unsigned long long)SUM_STAT(source, deferred_recipients));
  *before = accepted;
}

static enum client_end how_it_ended(const struct source *source) {
  enum client_end end = CLIENT_FINISHED;
  for (unsigned i = 0; i < source->client.threads; i++) {
    if (source->threads[i].end != CLIENT_FINISHED) end = source->threads[i].end;
  }
  return end;
}

static int last_error(const struct source *source) {
  for (unsigned i = 0; i < source->client.threads; i++) {
    if (source->threads[i].last_error != 0) return source->threads[i].last_error;
  }
  return 0;
}

static void report_codes(const struct source *source, struct report *r) {
  char key[8];
  report_group(r, "replies", "replies counted: 250 at the end of messages, all others");
  for (unsigned code = 200; code < SENDER_CODES; code++) {
    uint64_t count = 0;
    for (unsigned i = 0; i < source->client.threads; i++) count += counter_read(&source->threads[i].stats.codes[code]);
    snprintf(key, sizeof key, "%u", code);
    if (count > 0) report_count(r, key, key, count, "");
  }
  report_group_end(r);
}

static void report_sessions(const struct source *source, struct report *r) {
  report_group(r, "sessions", "sessions");
  report_count(r, "greeted", "in all", SUM_STAT(source, sessions), "");
  report_count(r, "max", "at most at once", SUM(source, open_max), "");
  report_count(r, "idle", "idle ones at the end", SUM(source, idle_open), "");
  report_count(r, "broken", "ended by the relay", SUM_STAT(source, broken), "");
  report_count(r, "connect_errors", "connections that failed", SUM(source, connect_errors), "");
  report_count(r, "without_pipelining", "without PIPELINING, not as planned", SUM_STAT(source, without_pipelining), "");
  report_count(r, "without_chunking", "without CHUNKING, not as planned", SUM_STAT(source, without_chunking), "");
  report_group_end(r);
}

static void report_tls(const struct source *source, struct report *r) {
  const struct client_thread *first = &source->threads[0];
  report_group(r, "tls", "TLS");
  report_count(r, "handshakes", "handshakes", SUM(source, tls_handshakes), "");
  report_count(r, "resumed", "of them: sessions resumed", SUM(source, tls_resumed), "");
  report_count(r, "failed", "that failed", SUM(source, tls_failed), "");
  report_text(r, "version", "version", first->tls_version);
  report_text(r, "cipher", "cipher", first->tls_cipher);
  report_group_end(r);
}

/* Prints the report; true if everything was accepted. */
static bool print_report(const struct source *source) {
  static const char *const ends[] = {"running", "finished", "stopped", "no connection", "no TLS", "no progress"};
  const struct settings *s = &source->settings;
  struct histogram *latency = calloc(1, sizeof *latency);
  must(latency != NULL);
  uint64_t last_ns = 0;
  for (unsigned i = 0; i < source->client.threads; i++) {
    histogram_merge(latency, &source->threads[i].stats.latency);
    counter_raise(&last_ns, source->threads[i].stats.last_ns);
  }
  uint64_t accepted = SUM_STAT(source, accepted), recipients = SUM_STAT(source, accepted_recipients);
  uint64_t refused = SUM_STAT(source, refused_recipients), given_up = SUM(source, given_up);
  double seconds = last_ns > source->client.started_ns ? (double)(last_ns - source->client.started_ns) / 1e9 : 0;
  struct process_usage usage = process_usage();
  struct report r;
  char run[20];
  snprintf(run, sizeof run, "%016llx", (unsigned long long)source->client.plan.run);
  report_begin(&r, stdout, s->json, "source");
  report_text(&r, "run", "run", run);
  report_text(&r, "end", "end", ends[how_it_ended(source)]);
  report_count(&r, "messages", "messages asked for", s->messages, "");
  report_count(&r, "accepted", "messages accepted", accepted, "");
  report_count(&r, "accepted_recipients", "recipients accepted", recipients, "");
  report_count(&r, "refused_recipients", "recipients refused for good", refused, "");
  report_count(&r, "deferred_recipients", "recipients deferred", SUM_STAT(source, deferred_recipients), "");
  report_count(&r, "again", "recipients sent again", SUM(source, again), "");
  report_count(&r, "given_up", "recipients given up", given_up, "");
  report_count(&r, "maybe_duplicated", "messages cut off before the reply", SUM_STAT(source, maybe_duplicated), "");
  report_real(&r, "seconds", "time", seconds, 3, "s");
  report_real(&r, "messages_per_second", "rate", seconds > 0 ? (double)accepted / seconds : 0, 0, "messages/s");
  report_real(&r, "cpu_us_per_message", "CPU of the source itself", accepted > 0 ? (usage.user_s + usage.system_s) * 1e6 / (double)accepted : 0, 2,
              "us/message");
  report_latency(&r, "injection_ms", s->rate > 0 ? "injection latency, from the time due" : "injection latency, from MAIL", latency);
  report_codes(source, &r);
  report_sessions(source, &r);
  if (s->tls != TLS_NONE) report_tls(source, &r);
  report_end(&r);
  free(latency);
  bool all = s->messages == 0 || recipients == s->messages * s->recipients || s->duration_ns > 0;
  return how_it_ended(source) == CLIENT_FINISHED && all && refused == 0 && given_up == 0;
}

/* ---- the control thread ---- */

static bool all_ended(const struct source *source) {
  for (unsigned i = 0; i < source->client.threads; i++) {
    if (__atomic_load_n(&source->threads[i].ended, __ATOMIC_ACQUIRE) == false) return false;
  }
  return true;
}

/* Once, when all are there; true from then on. */
static bool say_held(const struct source *source) {
  uint64_t held = SUM(source, idle_open);
  if (held < source->settings.idle) return false;
  fprintf(stderr, "ready: %llu idle sessions\n", (unsigned long long)held);
  return true;
}

static void control(struct source *source) {
  bool said = !only_holds(&source->settings);
  uint64_t before = 0, next_progress_ns = source->client.started_ns + 1000000000;
  bool progress = source->settings.progress || isatty(STDERR_FILENO);
  while (!all_ended(source)) {
    uint64_t now_ns = process_now_ns();
    said = said || say_held(source);
    if (progress && now_ns >= next_progress_ns) {
      next_progress_ns += 1000000000;
      print_progress(source, now_ns, &before);
    }
    int number = process_wait_signal(now_ns + TICK_NS);
    if (number == SIGINT || number == SIGTERM) __atomic_store_n(&source->client.stop, true, __ATOMIC_RELAXED);
    if (number == SIGUSR1) print_report(source);
  }
}

static const char *tls_error_of(const struct source *source) {
  for (unsigned i = 0; i < source->client.threads; i++) {
    if (source->threads[i].tls_error[0] != '\0') return source->threads[i].tls_error;
  }
  return "";
}

static void say_failure(const struct source *source) {
  switch (how_it_ended(source)) {
  case CLIENT_NO_CONNECTION: fprintf(stderr, "source: cannot connect to %s: %s\n", source->settings.to, strerror(last_error(source))); break;
  case CLIENT_NO_TLS: fprintf(stderr, "source: no TLS with %s: %s\n", source->settings.to, tls_error_of(source)); break;
  case CLIENT_NO_PROGRESS:
    fprintf(stderr, "source: no reply for %llu s: given up\n", (unsigned long long)(source->settings.timeout_ns / 1000000000));
    break;
  case CLIENT_RUNNING:
  case CLIENT_FINISHED:
  case CLIENT_STOPPED: break;
  }
}

int main(int argc, char **argv) {
  struct source *source = calloc(1, sizeof *source);
  must(source != NULL);
  source->settings = (struct settings){.to = "127.0.0.1:2525",
                                       .from = "sender@source.test",
                                       .hostname = "source.test",
                                       .pattern = "d%05d.test",
                                       .sessions = 100,
                                       .size = 4096,
                                       .recipients = 1,
                                       .domains = 100,
                                       .threads = 1,
                                       .retry_after_ns = 1000000000,
                                       .timeout_ns = 60000000000,
                                       .way = SENDER_COMMANDS};
  read_arguments(&source->settings, argc, argv);
  check_settings(&source->settings);
  process_take_signals();
  set_up(source);
  pthread_t ids[THREADS_MAX];
  start_threads(source, ids);
  control(source);
  for (unsigned i = 0; i < source->client.threads; i++) pthread_join(ids[i], NULL);
  say_failure(source);
  enum client_end end = how_it_ended(source);
  bool well = end != CLIENT_NO_CONNECTION && end != CLIENT_NO_TLS && print_report(source);
  tls_client_put(source->client.tls);
  free(source->threads);
  free(source);
  return well ? 0 : 1;
}
