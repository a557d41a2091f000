/*
 * sts: what the relay would know of domains' MTA-STS policies. For trying a set-up, and for tests against real servers.
 *
 *   sts --server ADDRESS[:PORT] [--file FILE] [--ca FILE] [--connect-to ADDRESS:PORT] [--timeout MS] [--retry MS] [--refresh MS] [--once] DOMAIN...
 *
 * Asks for all domains again and again, 20 times a second, and prints a line for each whose answer is another than before, until SIGTERM or SIGINT; with --once until
 * nothing is being fetched. What there is to say goes to stderr. Exit status: 0; 1 if it cannot start; 2 for bad usage.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/shard/shard.h"
#include "dns/resolver.h"
#include "net/sts/sts.h"

#define KIND 1
#define ROUND_MS 50
#define LINE_ROOM 4096

struct domain {
  const char *name;
  struct sts_query query;
  char line[LINE_ROOM];
  bool settled;
};

static volatile sig_atomic_t stop;

static void on_signal(int number) {
  (void)number;
  stop = 1;
}

static void say(void *context, const char *line) {
  (void)context;
  fprintf(stderr, "%s\n", line);
}

static void describe(const struct domain *domain, const struct sts_answer *answer, char line[LINE_ROOM]) {
  const char *trouble = sts_trouble_text(answer->trouble);
  int len = snprintf(line, LINE_ROOM, "%s state=%s%s%s", domain->name, sts_state_text(answer->state), trouble != NULL ? " trouble=" : "",
                     trouble != NULL ? trouble : "");
  if (answer->policy == NULL) return;
  len += snprintf(line + len, (size_t)(LINE_ROOM - len), " mode=%s max_age=%u mx=", sts_mode_text(answer->policy->mode), answer->policy->max_age_s);
  for (const char *pattern = NULL; (pattern = sts_policy_next(answer->policy, pattern)) != NULL && len < LINE_ROOM - 300;)
    len += snprintf(line + len, (size_t)(LINE_ROOM - len), "%s,", pattern);
}

static void done(struct sts_query *query, const struct sts_answer *answer) {
  struct domain *domain = query->context;
  char line[LINE_ROOM];
  describe(domain, answer, line);
  domain->settled = answer->state != STS_FETCHING;
  if (strcmp(line, domain->line) == 0) return;
  memcpy(domain->line, line, sizeof line);
  puts(line);
  fflush(stdout);
}

static bool all_settled(const struct domain *domains, unsigned count) {
  for (unsigned i = 0; i < count; i++)
    if (!domains[i].settled) return false;
  return true;
}

static void run(struct shard *shard, struct sts_view *view, struct domain *domains, unsigned count, bool once) {
  uint64_t next_ns = 0;
  while (!stop && !(once && all_settled(domains, count))) {
    uint64_t now_ns = io_now_ns(shard->io);
    for (unsigned i = 0; i < count && now_ns >= next_ns; i++)
      if (domains[i].query._place == NULL) sts_ask(view, span_of_text(domains[i].name), &domains[i].query);
    if (now_ns >= next_ns) next_ns = now_ns + ROUND_MS * 1000000ull;
    shard_turn(shard, next_ns);
  }
}

static void complete(void *context, const struct io_completion *completion) { resolver_complete(context, completion); }

static int work(const struct sts_options *options, const struct resolver_options *dns, char **names, unsigned count, bool once) {
  struct io_options io = {.sockets_max = 1024, .receive_buffers = 64, .receive_buffer_size = 4096};
  struct domain *domains = calloc(count, sizeof *domains);
  struct shard_group *group = NULL;
  struct resolver *resolver = NULL;
  struct sts *sts = NULL;
  static struct shard shard;
  const char *why = "out of memory";
  if (domains == NULL || shard_group_open(&group, 1) != E_OK || shard_init(&shard, group, 0, &io, &why) != E_OK ||
      resolver_open(&resolver, shard.io, &shard.wheel, dns, KIND) != E_OK || sts_open(&sts, options) != E_OK) {
    fprintf(stderr, "sts: %s\n", why);
    return 1;
  }
  shard_handle(&shard, KIND, complete, resolver);
  for (unsigned i = 0; i < count; i++) domains[i] = (struct domain){.name = names[i], .query = {.done = done, .context = &domains[i]}};
  run(&shard, sts_view(sts, 0, &shard, resolver), domains, count, once);
  errands_close(&shard); /* as at the end of shard_run */
  sts_stop(sts);
  resolver_close(resolver);
  shard_fini(&shard);
  sts_free(sts);
  shard_group_close(group);
  free(domains);
  return 0;
}

static int usage(void) {
  fputs("usage: sts --server ADDRESS[:PORT] [--file FILE] [--ca FILE] [--connect-to ADDRESS:PORT] [--timeout MS] [--retry MS] [--refresh MS] "
        "[--once] DOMAIN...\n",
        stderr);
  return 2;
}

int main(int argc, char **argv) {
  static const struct option names[] = {{"server", 1, NULL, 's'},     {"file", 1, NULL, 'f'},    {"ca", 1, NULL, 'a'},
                                        {"connect-to", 1, NULL, 'c'}, {"timeout", 1, NULL, 't'}, {"retry", 1, NULL, 'r'},
                                        {"refresh", 1, NULL, 'R'},    {"once", 0, NULL, '1'},    {NULL, 0, NULL, 0}};
  struct sts_options options = sts_defaults;
  struct netaddr server = {0};
  struct resolver_options dns = {.servers = &server, .servers_count = 1, .negative_ttl_max_s = 1};
  bool once = false;
  options.say = say;
  for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
    switch (option) {
    case 's':
      if (netaddr_parse_with_port(&server, span_of_text(optarg), 53) != E_OK) return usage();
      break;
    case 'f': options.file = optarg; break;
    case 'a': options.ca_file = optarg; break;
    case 'c': options.connect_to = optarg; break;
    case 't': options.timeout_ms = (uint32_t)strtoul(optarg, NULL, 10); break;
    case 'r': options.retry_ms = strtoull(optarg, NULL, 10); break;
    case 'R': options.refresh_ms = strtoull(optarg, NULL, 10); break;
    case '1': once = true; break;
    default: return usage();
    }
  }
  if (optind == argc || server.family == 0) return usage();
  signal(SIGTERM, on_signal);
  signal(SIGINT, on_signal);
  return work(&options, &dns, argv + optind, (unsigned)(argc - optind), once);
}
