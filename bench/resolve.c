/*
 * resolve: what the relay's own resolver finds for domains, one line each. For trying a set-up, and for tests against real name servers.
 *
 *   resolve [--server ADDRESS[:PORT]]... [--hostname NAME] [--no-ipv6] [--timeout MS] [--repeat N] [--stats] [--dane [--port N]] DOMAIN... | --domains N
 *
 * Without --server the nameserver lines of /etc/resolv.conf count. All domains are asked at once; --repeat asks N times, one round after the other.
 * --dane believes the servers' AD bit, and says of each host, in a line below the domain's, whether DANE is to be used, and with which records (for --port, 25).
 * --domains N asks for the first N of d%05d.test, which `sink --dns` has, and says only how long that took: of each from the beginning on.
 * Exit status: 0 if every domain has hosts, 1 if not, 2 for bad usage.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/histogram.h"
#include "bench/lib/process.h"
#include "core/base/error.h"
#include "core/conf/system.h"
#include "dns/resolver.h"

#define SERVERS_MAX SYSTEM_RESOLVERS_MAX
#define KIND 1
#define NAME_SIZE 32
#define HEX_MAX 8 /* of a record's bytes: enough to tell them apart */

struct run {
  struct netaddr servers[SERVERS_MAX];
  struct resolver_options options;
  unsigned repeat;
  unsigned domains; /* not 0: so many, numbered, and no line for each */
  bool stats;
  bool dane;
  uint16_t port;
  struct resolver *resolver;
  uint64_t begun_ns;
  unsigned found;
  struct histogram took;
  unsigned waiting;
  bool failed;
};

struct domain {
  struct run *run;
  const char *name;
  struct resolver_query query;
};

struct host { /* that is asked about */
  struct run *run;
  struct dane_query query;
  char name[512];
};

static void print_hosts(const struct mx_set *set, struct fmt *out) {
  for (unsigned i = 0; i < set->hosts; i++) {
    const struct mx_host *host = &set->host[i];
    fmt_text(out, i == 0 ? " hosts=" : ",");
    fmt_u64(out, host->preference);
    fmt_char(out, ':');
    fmt_text(out, host->name);
    for (unsigned a = 0; a < host->addresses; a++) {
      fmt_char(out, a == 0 ? '[' : ' ');
      netaddr_format(&host->address[a], out);
    }
    if (host->addresses > 0) fmt_char(out, ']');
  }
}

static void print(const char *name, const struct mx_set *set) {
  static char room[16384];
  struct fmt out = fmt_over(room, sizeof room);
  fmt_escaped(&out, span_of_text(name));
  fmt_text(&out, " status=");
  fmt_text(&out, mx_status_text(set->status));
  fmt_text(&out, " ttl=");
  fmt_u64(&out, set->ttl_s);
  if (set->implicit) fmt_text(&out, " implicit");
  if (set->secure) fmt_text(&out, " secure");
  if (set->mx_secure && !set->secure) fmt_text(&out, " mx-secure");
  if (set->stale) fmt_text(&out, " stale");
  if (set->status == MX_OK) {
    fmt_text(&out, " site=");
    mx_site_name(set, &out);
    print_hosts(set, &out);
  } else {
    fmt_text(&out, " reason=\"");
    fmt_escaped(&out, span_of_text(set->reason));
    fmt_char(&out, '"');
  }
  printf("%.*s\n", (int)out.len, room);
}

static void print_record(const struct dane_record *record) {
  printf(" %u %u %u ", record->usage, record->selector, record->matching);
  for (size_t i = 0; i < record->association.len && i < HEX_MAX; i++) printf("%02x", record->association.at[i]);
  printf("/%zu", record->association.len);
}

static void host_done(struct dane_query *query) {
  struct host *host = query->context;
  const struct dane *dane = &query->dane;
  printf("%s dane=%s ttl=%u", host->name, dane_status_text(dane->status), dane->ttl_s);
  if (dane->base.len > 0) printf(" base=%s", dane->base.text);
  printf(" reason=\"%s\"", dane->reason);
  for (unsigned i = 0; i < dane->count; i++) print_record(&dane->record[i]);
  puts("");
  host->run->waiting--;
  if (dane->status == DANE_DEFER) host->run->failed = true;
  free(host);
}

static void ask_about_hosts(struct run *run, const char *domain, const struct mx_set *set) {
  for (unsigned i = 0; i < set->hosts; i++) {
    struct host *host = calloc(1, sizeof *host);
    if (host == NULL) exit(1);
    *host = (struct host){.run = run, .query = {.done = host_done, .context = host}};
    snprintf(host->name, sizeof host->name, "%s/%s", domain, set->host[i].name);
    run->waiting++;
    resolver_dane(run->resolver, set, &set->host[i], span_of_text(domain), run->port, &host->query);
  }
}

static void done(struct resolver_query *query, const struct mx_set *set) {
  struct domain *domain = query->context;
  struct run *run = domain->run;
  run->waiting--;
  run->found += set->status == MX_OK;
  if (set->status != MX_OK) run->failed = true;
  if (run->domains == 0) print(domain->name, set);
  if (run->dane) ask_about_hosts(run, domain->name, set);
  histogram_record(&run->took, process_now_ns() - run->begun_ns);
}

static double ms_of(uint64_t ns) { return (double)ns / 1e6; }

static void print_summary(const struct run *run, double cpu_s) {
  unsigned asked = run->domains * run->repeat;
  printf("domains=%u found=%u cpu_us_per_domain=%.1f p50_ms=%.1f p99_ms=%.1f max_ms=%.1f\n", asked, run->found, cpu_s * 1e6 / asked,
         ms_of(histogram_percentile(&run->took, 50)), ms_of(histogram_percentile(&run->took, 99)), ms_of(run->took.max_ns));
}

static void print_stats(const struct resolver_stats *s) {
  printf(
      "queries_sent=%llu retries=%llu answers=%llu timeouts=%llu mismatches=%llu truncated=%llu cache_hits=%llu cache_misses=%llu stale_served=%llu "
      "merged=%llu\n",
      (unsigned long long)s->queries_sent, (unsigned long long)s->retries, (unsigned long long)s->answers, (unsigned long long)s->timeouts,
      (unsigned long long)s->mismatches, (unsigned long long)s->truncated, (unsigned long long)s->cache_hits, (unsigned long long)s->cache_misses,
      (unsigned long long)s->stale_served, (unsigned long long)s->merged);
}

static void turn(struct io *io, struct wheel *wheel, struct resolver *resolver) {
  const struct io_completion *completions;
  uint64_t due_ms = wheel_next_ms(wheel);
  unsigned count = io_wait(io, due_ms == WHEEL_NEVER ? UINT64_MAX : due_ms * 1000000, &completions);
  for (unsigned i = 0; i < count; i++)
    if (completions[i].token >> 56 == KIND) resolver_complete(resolver, &completions[i]);
  wheel_advance(wheel, io_now_ns(io) / 1000000, NULL, 1000);
}

static int resolve(struct run *run, char **names, unsigned count) {
  struct io_options io_options = {.sockets_max = 1024, .receive_buffers = 256, .receive_buffer_size = 4096};
  struct wheel *wheel = malloc(sizeof *wheel);
  struct domain *domains = calloc(count, sizeof *domains);
  struct resolver *resolver = NULL;
  struct io *io = NULL;
  const char *why = "";
  if (wheel == NULL || domains == NULL || io_open(&io, &io_options, &why) != E_OK) {
    fprintf(stderr, "resolve: %s\n", why);
    return 1;
  }
  wheel_init(wheel, io_now_ns(io) / 1000000);
  if (resolver_open(&resolver, io, wheel, &run->options, KIND) != E_OK) return 1;
  run->resolver = resolver;
  struct process_usage before = process_usage();
  for (unsigned round = 0; round < run->repeat; round++) {
    run->begun_ns = process_now_ns();
    for (unsigned i = 0; i < count; i++) {
      domains[i] = (struct domain){.run = run, .name = names[i], .query = {.done = done, .context = &domains[i]}};
      run->waiting++;
      resolver_mx(resolver, span_of_text(names[i]), &domains[i].query);
    }
    while (run->waiting > 0) turn(io, wheel, resolver);
  }
  struct process_usage after = process_usage();
  if (run->domains > 0) print_summary(run, after.user_s + after.system_s - before.user_s - before.system_s);
  if (run->stats) print_stats(resolver_stats(resolver));
  io_destroy(io);
  resolver_close(resolver);
  free(domains);
  free(wheel);
  return run->failed;
}

static unsigned system_servers(struct netaddr *servers) {
  struct conf_system system;
  system_look(&system);
  memcpy(servers, system.resolvers, system.resolvers_count * sizeof *servers);
  return system.resolvers_count;
}

static int usage(void) {
  fputs("usage: resolve [--server ADDRESS[:PORT]]... [--hostname NAME] [--no-ipv6] [--timeout MS] [--repeat N] [--stats] [--dane [--port N]] "
        "DOMAIN... | "
        "--domains N\n",
        stderr);
  return 2;
}

static int resolve_numbered(struct run *run) {
  char **names = calloc(run->domains, sizeof *names);
  char *room = calloc(run->domains, NAME_SIZE);
  if (names == NULL || room == NULL) return 1;
  for (unsigned i = 0; i < run->domains; i++) {
    names[i] = room + (size_t)i * NAME_SIZE;
    snprintf(names[i], NAME_SIZE, "d%05u.test", i);
  }
  int status = resolve(run, names, run->domains);
  free(room);
  free(names);
  return status;
}

int main(int argc, char **argv) {
  static const struct option names[] = {{"server", 1, NULL, 's'}, {"hostname", 1, NULL, 'h'}, {"no-ipv6", 0, NULL, '4'}, {"timeout", 1, NULL, 't'},
                                        {"repeat", 1, NULL, 'r'}, {"stats", 0, NULL, 'S'},    {"domains", 1, NULL, 'd'}, {"dane", 0, NULL, 'D'},
                                        {"port", 1, NULL, 'p'},   {NULL, 0, NULL, 0}};
  static struct run run = {.repeat = 1, .port = 25, .options = {.ipv6 = true}};
  run.options.servers = run.servers;
  for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
    switch (option) {
    case 's':
      if (run.options.servers_count == SERVERS_MAX) return usage();
      if (netaddr_parse_with_port(&run.servers[run.options.servers_count++], span_of_text(optarg), 53) != E_OK) return usage();
      break;
    case 'h': run.options.hostname = span_of_text(optarg); break;
    case '4': run.options.ipv6 = false; break;
    case 't': run.options.timeout_ms = (uint32_t)strtoul(optarg, NULL, 10); break;
    case 'r': run.repeat = (unsigned)strtoul(optarg, NULL, 10); break;
    case 'S': run.stats = true; break;
    case 'd': run.domains = (unsigned)strtoul(optarg, NULL, 10); break;
    case 'D': run.dane = run.options.dnssec = true; break;
    case 'p': run.port = (uint16_t)strtoul(optarg, NULL, 10); break;
    default: return usage();
    }
  }
  if ((optind == argc) != (run.domains > 0)) return usage();
  if (run.options.servers_count == 0) run.options.servers_count = system_servers(run.servers);
  if (run.domains > 0) return resolve_numbered(&run);
  return resolve(&run, argv + optind, (unsigned)(argc - optind));
}
