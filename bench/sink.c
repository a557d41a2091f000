/*
 * sink: takes all mail there is, as the mail exchangers of many domains, and knows afterwards what was lost, duplicated, damaged or went to the wrong
 * place. The counterpart of source.
 */
#include "bench/lib/certs.h"
#include "bench/lib/counter.h"
#include "bench/lib/nameserver.h"
#include "bench/lib/options.h"
#include "bench/lib/report.h"
#include "bench/lib/server.h"
#include "core/base/error.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
  THREADS_MAX = 64,
  LOST_SHOWN = 10,
  TICK_NS = 100000000,
  DOMAINS_COUNTED = 65536, /* for connections per domain, when --domains does not say how many there are */
};
#define CONNECTIONS_MAX 16384u

enum { TLS_NONE, TLS_STARTTLS, TLS_IMPLICIT }; /* --tls */
#define TICKET_KEY_S 3600

struct settings {
  struct option_list listen, rules;
  const char *pattern, *dns, *hostname;
  uint64_t domains, sites, mx, ttl_ns, negative_ttl_ns;
  uint64_t size_max, recipients_max;
  uint64_t threads, expect, idle_exit_ns, linger_ns;
  unsigned tls;
  bool no_pipelining, no_chunking, no_8bitmime, no_smtputf8, no_dsn, no_enhanced, no_size, no_verify, no_address_check;
  bool truncate, json, progress, warm_up;
};

struct sink {
  struct settings settings;
  struct server server;
  struct rules rules;
  struct zone zone;
  struct ledger ledger;
  struct content_block block;
  struct server_thread *threads;
  struct nameserver *nameserver;
  uint64_t started_ns;
  uint64_t first_ns; /* when the first connection was seen; 0: not yet */
  uint64_t last_ns;  /* when a message was last seen */
};

/* ---- the start ---- */

static void read_arguments(struct settings *s, int argc, char **argv) {
  const struct option table[] = {
      {NULL, OPTION_TITLE, NULL, NULL, "Where", NULL},
      {"listen", OPTION_LIST, &s->listen, "WHERE",
       "ADDRESS:PORT, or NETWORK/BITS:PORT within 127.0.0.0/8: every address of the\n"
       "network is a host; may be given several times (default 127.0.1.0/24:2526)",
       NULL},
      {"hostname", OPTION_TEXT, &s->hostname, "NAME", "said in the greeting (default sink.test)", NULL},
      {"threads", OPTION_COUNT, &s->threads, "N", "threads that serve (default 1)", NULL},
      {NULL, OPTION_TITLE, NULL, NULL, "The world it plays", NULL},
      {"dns", OPTION_TEXT, &s->dns, "ADDRESS:PORT", "answer DNS queries there, UDP and TCP, for the domains below", NULL},
      {"domain-pattern", OPTION_TEXT, &s->pattern, "PATTERN", "names of the domains (default d%05d.test)", NULL},
      {"domains", OPTION_COUNT, &s->domains, "N", "how many exist (default 0: every number)", NULL},
      {"mx", OPTION_COUNT, &s->mx, "N", "MX hosts of each domain, 1 to 16 (default 1)", NULL},
      {"sites", OPTION_COUNT, &s->sites, "N", "domains share the MX hosts of N sites (default 0: each has its own)", NULL},
      {"ttl", OPTION_DURATION, &s->ttl_ns, "TIME", "of DNS answers (default 1h)", NULL},
      {"negative-ttl", OPTION_DURATION, &s->negative_ttl_ns, "TIME", "of negative DNS answers (default 60s)", NULL},
      {"dns-truncate", OPTION_FLAG, &s->truncate, NULL, "answer UDP queries with TC, so that resolvers come by TCP", NULL},
      {NULL, OPTION_TITLE, NULL, NULL, "Extensions", NULL},
      {"no-pipelining", OPTION_FLAG, &s->no_pipelining, NULL, "do not offer PIPELINING", NULL},
      {"no-chunking", OPTION_FLAG, &s->no_chunking, NULL, "do not offer CHUNKING (BDAT)", NULL},
      {"no-8bitmime", OPTION_FLAG, &s->no_8bitmime, NULL, "do not offer 8BITMIME", NULL},
      {"no-smtputf8", OPTION_FLAG, &s->no_smtputf8, NULL, "do not offer SMTPUTF8", NULL},
      {"no-dsn", OPTION_FLAG, &s->no_dsn, NULL, "do not offer DSN", NULL},
      {"no-size", OPTION_FLAG, &s->no_size, NULL, "do not offer SIZE", NULL},
      {"no-enhanced", OPTION_FLAG, &s->no_enhanced, NULL, "do not offer ENHANCEDSTATUSCODES, nor send them", NULL},
      {"tls", OPTION_CHOICE, &s->tls, NULL,
       "offer STARTTLS, or speak TLS from the first byte on (default none); the certificate is made at the start", "none|starttls|implicit"},
      {"size-max", OPTION_SIZE, &s->size_max, "BYTES", "a longer message gets 552 (default 64MiB)", NULL},
      {"recipients-max", OPTION_COUNT, &s->recipients_max, "N", "more in one transaction get 452 (default 1000)", NULL},
      {NULL, OPTION_TITLE, NULL, NULL, "Behaviour", NULL},
      {"rule", OPTION_LIST, &s->rules, "RULE", "refuse, defer, delay, cut, drip: see below; may be given several times", NULL},
      {"no-verify", OPTION_FLAG, &s->no_verify, NULL, "do not compare bodies (a relay that rewrites them is tested)", NULL},
      {"no-address-check", OPTION_FLAG, &s->no_address_check, NULL, "with --dns: do not check that mail comes to an MX of its domain", NULL},
      {NULL, OPTION_TITLE, NULL, NULL, "The end and the report", NULL},
      {"expect", OPTION_COUNT, &s->expect, "N", "end when N recipients have arrived (or were refused by a rule)", NULL},
      {"linger", OPTION_DURATION, &s->linger_ns, "TIME", "wait so long for duplicates before the end by --expect (default 500ms)", NULL},
      {"idle-exit", OPTION_DURATION, &s->idle_exit_ns, "TIME", "end when nothing has come for so long, after the first connection", NULL},
      {"warm-up", OPTION_FLAG, &s->warm_up, NULL, "rate and latency are of what arrives after SIGUSR2 only; all else is of everything", NULL},
      {"progress", OPTION_FLAG, &s->progress, NULL, "a line each second on standard error, even if it is no terminal", NULL},
      {"json", OPTION_FLAG, &s->json, NULL, "report as JSON", NULL},
  };
  const struct option_usage usage = {
      "sink", "[--listen WHERE]... [--dns ADDRESS:PORT] [OPTION]...",
      "Takes all mail as the mail exchangers of many domains, and reports what was lost, duplicated, damaged or\n"
      "came to the wrong host. Messages made by `source` carry a stamp that tells; others are counted as foreign.",
      "A rule: words separated by spaces.\n"
      "  stage=STAGE       connect, helo, mail, rcpt, data or final: where it applies; always needed\n"
      "  rcpt=GLOB from=GLOB host=GLOB\n"
      "                    only for these recipients, senders, local addresses\n"
      "  rate=0.1          only so often\n"
      "  first=2           only the first 2 times for the same recipient (rcpt, data, final) or address\n"
      "  reply=CODE TEXT   answer 4xx or 5xx; 421 ends the connection\n"
      "  delay=TIME        wait before the reply\n"
      "  drip=TIME         from here on send one byte every so often\n"
      "  cut               close the connection instead of a reply\n"
      "  cut-after-accept  (final) keep the message, then close without a reply; when it comes again that is excused\n"
      "Example: --rule 'rcpt=*@d00007.test stage=rcpt reply=550 5.1.1 no such user rate=0.1'\n\n"
      "The DNS answers MX for the domains, A for their hosts (the addresses of the first --listen), and below the\n"
      "pattern's suffix: nullmx (null MX), servfail (SERVFAIL), silent (no answer); all else, nx for one, is NXDOMAIN.\n\n"
      "SIGUSR1 prints the report so far; SIGUSR2 ends the warm-up; SIGINT and SIGTERM end. Prints a line starting `ready` on\n"
      "standard error.\n"
      "Exit status: 0 all that was expected has come, once and whole; 1 something was lost, duplicated or damaged, or a\n"
      "failure; 2 wrong usage."};
  options_run(&usage, table, sizeof table / sizeof *table, argc, argv);
}

__attribute__((noreturn)) static void usage_error(const char *option, const char *value, const char *why) {
  fprintf(stderr, "sink: --%s '%s': %s (see sink --help)\n", option, value, why);
  exit(2);
}

static void set_up_listeners(struct sink *sink) {
  struct option_list *list = &sink->settings.listen;
  if (list->count == 0) list->items[list->count++] = "127.0.1.0/24:2526";
  if (list->count > LISTENERS_MAX) usage_error("listen", list->items[LISTENERS_MAX], "too many");
  for (unsigned i = 0; i < list->count; i++) {
    const char *why;
    if (listener_parse(&sink->server.listeners[i], list->items[i], &why) < 0) usage_error("listen", list->items[i], why);
  }
  sink->server.listener_count = list->count;
}

/* MX hosts live on the addresses of the first listener; a network's first and last one are left out. */
static void set_up_zone(struct sink *sink) {
  const struct settings *s = &sink->settings;
  const struct listener *listener = &sink->server.listeners[0];
  bool trimmed = listener->count > 2;
  if (domains_parse(&sink->zone.domains, span_of_text(s->pattern)) < 0) usage_error("domain-pattern", s->pattern, "needs one %d or %0Nd in a name");
  if (s->mx < 1 || s->mx > ZONE_MX_MAX) usage_error("mx", "", "from 1 to 16");
  if (s->dns != NULL && listener->base == 0) usage_error("dns", s->dns, "needs a first --listen with an IPv4 address");
  sink->zone.count = s->domains;
  sink->zone.sites = s->sites;
  sink->zone.mx_hosts = (uint32_t)s->mx;
  sink->zone.host_base = listener->base + trimmed;
  sink->zone.host_count = listener->count - (trimmed ? 2 : 0);
  sink->zone.ttl_s = (uint32_t)(s->ttl_ns / 1000000000);
  sink->zone.negative_ttl_s = (uint32_t)(s->negative_ttl_ns / 1000000000);
  sink->zone.truncate = s->truncate;
}

static uint8_t *tries_new(void) {
  void *at = mmap(NULL, RECEIVER_TRIES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) process_fail("sink", "no address space to count tries in: %s", strerror(errno));
  return at;
}

static void set_up_rules(struct sink *sink) {
  for (unsigned i = 0; i < sink->settings.rules.count; i++) {
    const char *text = sink->settings.rules.items[i], *why;
    if (rule_parse(&sink->rules, span_of_text(text), &why) < 0) usage_error("rule", text, why);
    if (sink->rules.list[i].first > 0 && sink->server.receiver.tries == NULL) sink->server.receiver.tries = tries_new();
  }
}

static void set_up_receiver(struct sink *sink) {
  const struct settings *s = &sink->settings;
  uint64_t counted = s->domains > 0 ? s->domains : DOMAINS_COUNTED;
  struct receiver_config *config = &sink->server.receiver;
  uint8_t *tries = config->tries;
  *config = (struct receiver_config){
      .hostname = s->hostname,
      .pipelining = !s->no_pipelining,
      .chunking = !s->no_chunking,
      .eight_bit = !s->no_8bitmime,
      .smtputf8 = !s->no_smtputf8,
      .dsn = !s->no_dsn,
      .enhanced = !s->no_enhanced,
      .size = !s->no_size,
      .starttls = s->tls == TLS_STARTTLS,
      .verify = !s->no_verify,
      .size_max = s->size_max,
      .recipients_max = s->recipients_max,
      .rules = &sink->rules,
      .block = &sink->block,
      .ledger = &sink->ledger,
      .zone = &sink->zone,
      .check_address = s->dns != NULL && !s->no_address_check,
      .domain_count = counted,
      .domain_connections = calloc(counted, sizeof(uint32_t)),
      .domain_connections_max = calloc(counted, sizeof(uint32_t)),
      .tries = tries,
      .timed_from_ns = s->warm_up ? UINT64_MAX : 0,
  };
  if (config->domain_connections == NULL || config->domain_connections_max == NULL || ledger_init(&sink->ledger) < 0) {
    process_fail("sink", "no memory");
  }
  content_block_fill(&sink->block);
}

/* A certificate of its own signing, for all the hosts that it plays: who sends mail to them does not look at it. */
static int load_certificate(struct sink *sink, const char *dir, struct fmt *why) {
  uint8_t none[1];
  struct fmt warnings = fmt_over(none, 0);
  certs_make(dir, "sink", &(struct certs_spec){.common_name = "sink.test", .alt_names = "DNS:sink.test,DNS:*.test"});
  struct tls_files files = {certs_path(dir, "sink", ".pem"), certs_path(dir, "sink", ".key")};
  struct tls_server_config config = {.certificates = &files, .certificate_count = 1, .tickets = tls_tickets_new(TICKET_KEY_S)};
  must(config.tickets != NULL);
  int error = tls_server_new(&sink->server.tls, &config, process_wall_ms(), why, &warnings);
  tls_tickets_put(config.tickets);
  return error;
}

static void set_up_tls(struct sink *sink) {
  uint8_t room[256];
  char dir[CERTS_PATH];
  struct fmt why = fmt_over(room, sizeof room);
  if (sink->settings.tls == TLS_NONE) return;
  int error = tls_init(TLS_LIBCRYPTO, &why);
  certs_begin(dir);
  if (error == E_OK) error = load_certificate(sink, dir, &why);
  certs_end(dir);
  if (error != E_OK) process_fail("sink", "no TLS: %.*s", (int)why.len, (const char *)why.at);
  sink->server.implicit = sink->settings.tls == TLS_IMPLICIT;
}

static void start_dns(struct sink *sink) {
  struct endpoint endpoint;
  const char *why;
  if (sink->settings.dns == NULL) return;
  if (endpoint_parse(&endpoint, sink->settings.dns, &why) < 0) usage_error("dns", sink->settings.dns, why);
  sink->nameserver = nameserver_start(&sink->zone, &endpoint);
  if (sink->nameserver == NULL) process_fail("sink", "cannot answer DNS on %s: %s", sink->settings.dns, strerror(errno));
}

static void start_threads(struct sink *sink, pthread_t *ids) {
  uint64_t files = process_raise_files();
  sink->server.threads = (unsigned)sink->settings.threads;
  /* A thread's table of fixed files is limited like ordinary files; some are left for the rest. */
  sink->server.connections_limit = files > CONNECTIONS_MAX + 64 ? CONNECTIONS_MAX : (uint32_t)files - 64;
  sink->threads = calloc(sink->server.threads, sizeof *sink->threads);
  must(sink->threads != NULL);
  for (unsigned i = 0; i < sink->server.threads; i++) {
    const char *which = "";
    sink->threads[i].server = &sink->server;
    sink->threads[i].number = i;
    int result = server_listen(&sink->threads[i], &which);
    if (result < 0) process_fail("sink", "cannot listen on %s: %s", which, strerror(-result));
  }
  for (unsigned i = 0; i < sink->server.threads; i++) {
    must(pthread_create(&ids[i], NULL, server_run, &sink->threads[i]) == 0);
  }
}

/* ---- figures ---- */

/* All of the statistics but the histogram are counters in a row. */
static void add_counters(struct receiver_stats *into, const struct receiver_stats *from) {
  static_assert(offsetof(struct receiver_stats, latency) % sizeof(uint64_t) == 0, "counters only");
  uint64_t *to = (uint64_t *)into;
  const uint64_t *source = (const uint64_t *)from;
  for (size_t i = 0; i < offsetof(struct receiver_stats, latency) / sizeof(uint64_t); i++) to[i] += counter_read(&source[i]);
  histogram_merge(&into->latency, &from->latency);
  uint64_t first_ns = counter_read(&from->first_ns);
  if (first_ns > 0 && (into->first_ns == 0 || first_ns < into->first_ns)) into->first_ns = first_ns;
  counter_raise(&into->last_ns, counter_read(&from->last_ns));
}

static uint64_t sum_of(const struct sink *sink, size_t offset) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < sink->server.threads; i++) sum += counter_read((const uint64_t *)((const char *)&sink->threads[i].stats + offset));
  return sum;
}
#define SUM(sink, field) sum_of((sink), offsetof(struct receiver_stats, field))

static uint32_t largest(const uint32_t *values, uint64_t count) {
  uint32_t max = 0;
  for (uint64_t i = 0; i < count; i++) {
    uint32_t value = __atomic_load_n(&values[i], __ATOMIC_RELAXED);
    if (value > max) max = value;
  }
  return max;
}

static uint32_t largest_per_address(const struct sink *sink) {
  uint32_t max = 0;
  for (unsigned i = 0; i < sink->server.listener_count; i++) {
    uint32_t value = largest(sink->server.listeners[i].connections_max, sink->server.listeners[i].count);
    if (value > max) max = value;
  }
  return max;
}

static void report_connections(const struct sink *sink, const struct receiver_stats *stats, struct report *r) {
  const struct receiver_config *config = &sink->server.receiver;
  report_group(r, "connections", "connections");
  report_count(r, "count", "in all", stats->connections, "");
  report_count(r, "max", "at most at once", sink->server.connections_max, "");
  report_count(r, "max_per_address", "at most at once to one address", largest_per_address(sink), "");
  report_count(r, "max_per_domain", "at most at once for one domain", largest(config->domain_connections_max, config->domain_count), "");
  report_count(r, "pipelined", "that used PIPELINING", stats->pipelined_connections, "");
  report_real(r, "messages_each", "messages each, mean", stats->connections > 0 ? (double)stats->transactions / (double)stats->connections : 0, 1,
              "");
  report_group_end(r);
}

static void report_transactions(const struct receiver_stats *stats, struct report *r) {
  report_group(r, "transactions", "transactions");
  report_count(r, "accepted", "accepted", stats->transactions, "");
  report_count(r, "recipients", "recipients", stats->recipients, "");
  report_real(r, "recipients_each", "recipients each, mean", stats->transactions > 0 ? (double)stats->recipients / (double)stats->transactions : 0, 2,
              "");
  report_count(r, "recipients_max", "recipients each, at most", stats->recipients_per_transaction_max, "");
  report_count(r, "chunked", "by BDAT", stats->chunked, "");
  report_count(r, "pipelined_reads", "reads with pipelined commands", stats->pipelined, "");
  report_count(r, "bytes", "content", stats->bytes, "bytes");
  report_group_end(r);
}

static void report_tls(const struct receiver_stats *stats, struct report *r) {
  report_group(r, "tls", "TLS");
  report_count(r, "handshakes", "handshakes", stats->tls_handshakes, "");
  report_count(r, "resumed", "of them: sessions resumed", stats->tls_resumed, "");
  report_count(r, "failed", "that failed", stats->tls_failed, "");
  report_count(r, "messages", "messages accepted in TLS", stats->tls_transactions, "");
  report_group_end(r);
}

static void report_trouble(const struct receiver_stats *stats, struct report *r) {
  report_group(r, "trouble", "trouble");
  report_count(r, "foreign", "messages of others", stats->foreign, "");
  report_count(r, "bounces", "messages with null sender", stats->bounces, "");
  report_count(r, "refused", "replies 5xx by rule or limit", stats->refused, "");
  report_count(r, "deferred", "replies 4xx by rule or limit", stats->deferred, "");
  report_count(r, "cuts", "connections cut by rule", stats->cuts, "");
  report_count(r, "excused_duplicates", "duplicates after such a cut", stats->excused_duplicates, "");
  report_count(r, "protocol_errors", "commands with errors", stats->protocol_errors, "");
  report_count(r, "pipelining_violations", "pipelining that was not offered", stats->pipelining_violations, "");
  report_group_end(r);
}

static void report_lost(const struct ledger_sum *sum, const uint64_t *lost, struct report *r) {
  char text[LOST_SHOWN * 28 + 8] = "";
  size_t len = 0;
  for (uint64_t i = 0; i < sum->lost && i < LOST_SHOWN; i++) {
    len += (size_t)snprintf(text + len, sizeof text - len, "%suser-%llu", i > 0 ? " " : "", (unsigned long long)lost[i]);
  }
  if (sum->lost > 0) report_text(r, "lost_first", "the first of them", text);
}

/* Prints the report; true if all is well. */
static bool print_report(struct sink *sink) {
  uint64_t lost[LOST_SHOWN];
  struct receiver_stats *stats = calloc(1, sizeof *stats);
  must(stats != NULL);
  for (unsigned i = 0; i < sink->server.threads; i++) add_counters(stats, &sink->threads[i].stats);
  struct ledger_sum sum = ledger_sum(&sink->ledger, sink->settings.expect, lost, LOST_SHOWN);
  struct process_usage usage = process_usage();
  /* Nothing timed yet: both are 0. */
  double seconds = (double)(stats->last_ns - stats->first_ns) / 1e9;
  struct report r;
  report_begin(&r, stdout, sink->settings.json, "sink");
  report_count(&r, "expected", "recipients expected", sum.expected, "");
  report_count(&r, "arrived", "recipients arrived", stats->arrived, "");
  report_count(&r, "refused", "recipients refused for good", sum.refused, "");
  report_count(&r, "lost", "lost", sum.lost, "");
  report_lost(&sum, lost, &r);
  report_count(&r, "duplicated", "duplicated", stats->duplicated, "");
  report_count(&r, "corrupt", "messages damaged", stats->corrupt, "");
  report_count(&r, "misdelivered", "recipients with another's message", stats->misdelivered, "");
  report_count(&r, "misrouted", "recipients at the wrong host", stats->misrouted, "");
  report_real(&r, "seconds", "from the first to the last message", seconds, 3, "s");
  report_count(&r, "timed", "messages in that time", stats->timed, "");
  report_real(&r, "messages_per_second", "rate", seconds > 0 ? (double)stats->timed / seconds : 0, 0, "messages/s");
  report_real(&r, "cpu_us_per_message", "CPU of the sink itself",
              stats->transactions > 0 ? (usage.user_s + usage.system_s) * 1e6 / (double)stats->transactions : 0, 2, "us/message");
  report_latency(&r, "end_to_end_ms", "end-to-end latency", &stats->latency);
  report_connections(sink, stats, &r);
  report_transactions(stats, &r);
  if (sink->settings.tls != TLS_NONE) report_tls(stats, &r);
  report_trouble(stats, &r);
  if (sink->nameserver != NULL) report_count(&r, "dns_queries", "DNS queries", nameserver_queries(sink->nameserver), "");
  report_end(&r);
  bool well = sum.lost == 0 && stats->duplicated == 0 && stats->corrupt == 0 && stats->misdelivered == 0 && stats->misrouted == 0;
  free(stats);
  return well;
}

static void print_progress(const struct sink *sink, uint64_t now_ns, uint64_t *before) {
  uint64_t arrived = SUM(sink, arrived);
  fprintf(stderr, "sink seconds=%.0f arrived=%llu rate=%llu connections=%u duplicated=%llu corrupt=%llu\n", (double)(now_ns - sink->started_ns) / 1e9,
          (unsigned long long)arrived, (unsigned long long)(arrived - *before), __atomic_load_n(&sink->server.connections, __ATOMIC_RELAXED),
          (unsigned long long)SUM(sink, duplicated), (unsigned long long)SUM(sink, corrupt));
  *before = arrived;
}

/* ---- the control thread ---- */

static bool is_over(struct sink *sink, uint64_t now_ns, uint64_t *seen) {
  const struct settings *s = &sink->settings;
  uint64_t taken = SUM(sink, recipients) + SUM(sink, refused) + SUM(sink, deferred);
  if (sink->first_ns == 0 && SUM(sink, connections) > 0) sink->first_ns = sink->last_ns = now_ns;
  if (taken != *seen) {
    *seen = taken;
    sink->last_ns = now_ns;
  }
  if (s->expect > 0 && SUM(sink, arrived) + (SUM(sink, refused) > 0 ? ledger_sum(&sink->ledger, s->expect, NULL, 0).refused : 0) >= s->expect) {
    return now_ns - sink->last_ns >= s->linger_ns;
  }
  return s->idle_exit_ns > 0 && sink->first_ns > 0 && now_ns - sink->last_ns >= s->idle_exit_ns;
}

static void control(struct sink *sink) {
  uint64_t seen = 0, arrived_before = 0, next_progress_ns = sink->started_ns + 1000000000;
  bool progress = sink->settings.progress || isatty(STDERR_FILENO);
  for (;;) {
    uint64_t now_ns = process_now_ns();
    if (is_over(sink, now_ns, &seen)) return;
    if (now_ns >= next_progress_ns) {
      next_progress_ns += 1000000000;
      if (progress) print_progress(sink, now_ns, &arrived_before);
    }
    int number = process_wait_signal(now_ns + TICK_NS);
    if (number == SIGUSR1) print_report(sink);
    if (number == SIGUSR2 && sink->settings.warm_up) counter_write(&sink->server.receiver.timed_from_ns, process_now_ns());
    if (number == SIGINT || number == SIGTERM) return;
  }
}

int main(int argc, char **argv) {
  struct sink *sink = calloc(1, sizeof *sink);
  must(sink != NULL);
  sink->settings = (struct settings){.pattern = "d%05d.test",
                                     .hostname = "sink.test",
                                     .mx = 1,
                                     .ttl_ns = 3600000000000,
                                     .negative_ttl_ns = 60000000000,
                                     .size_max = 64 << 20,
                                     .recipients_max = 1000,
                                     .threads = 1,
                                     .linger_ns = 500000000};
  read_arguments(&sink->settings, argc, argv);
  if (sink->settings.threads < 1 || sink->settings.threads > THREADS_MAX) usage_error("threads", "", "from 1 to 64");
  process_take_signals();
  set_up_listeners(sink);
  set_up_zone(sink);
  set_up_rules(sink);
  set_up_receiver(sink);
  set_up_tls(sink);
  start_dns(sink);
  pthread_t ids[THREADS_MAX];
  start_threads(sink, ids);
  sink->started_ns = process_now_ns();
  fprintf(stderr, "ready: listening on %s%s%s\n", sink->server.listeners[0].text, sink->nameserver != NULL ? ", DNS on " : "",
          sink->nameserver != NULL ? sink->settings.dns : "");
  control(sink);
  __atomic_store_n(&sink->server.stop, true, __ATOMIC_RELAXED);
  for (unsigned i = 0; i < sink->server.threads; i++) pthread_join(ids[i], NULL);
  tls_server_put(sink->server.tls);
  return print_report(sink) ? 0 : 1;
}
