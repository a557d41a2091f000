/*
 * tlsrpt: TLS reports alone, without the relay. For trying a set-up, and for tests against real servers.
 *
 *   tlsrpt --server ADDRESS[:PORT] --out DIRECTORY [--file FILE] [--ca FILE] [--connect-to ADDRESS:PORT] [--timeout MS] [--spread MS] [--retry MS] [--save MS]
 *          [--refuse N] [DOMAIN...]
 *
 * Counts some sessions for each DOMAIN: 3 good ones without a policy; with an MTA-STS policy 2 good ones and a failure; with TLSA records 2 failures. Says so. Then sends what is
 * due of earlier days, until SIGTERM or SIGINT. A message goes into a file of DIRECTORY, in the form in which it would be queued, with a line on stdout; the first N are
 * refused as by a full queue. What there is to say goes to stderr. Exit status: 0; 1 if it cannot start; 2 for bad usage.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/shard/shard.h"
#include "dns/resolver.h"
#include "net/mail/mime.h"
#include "net/sts/policy.h"
#include "net/tlsrpt/tlsrpt.h"

#define KIND 1
#define HOSTNAME "relay.example.net"

struct world {
  struct shard *shard;
  const char *out;
  unsigned refuse, count;
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

static bool store(const struct world *world, const struct tlsrpt_mail *mail) {
  char path[4096], room[512];
  struct mime mime = {.hostname = SPAN(HOSTNAME), .id = world->count, .now_ms = world->shard->wall_ms};
  struct fmt received = fmt_over(room, sizeof room);
  mime_received(&mime, &received);
  snprintf(path, sizeof path, "%s/%u", world->out, world->count);
  FILE *file = fopen(path, "wb");
  if (file == NULL) return false;
  bool done = fwrite(received.at, 1, received.len, file) == received.len && fwrite(mail->bytes.at, 1, mail->bytes.len, file) == mail->bytes.len;
  return fclose(file) == 0 && done;
}

static void submit(void *context, struct tlsrpt_mail *mail) {
  struct world *world = context;
  if (world->refuse > 0) {
    world->refuse--;
    tlsrpt_mail_done(mail, E_NO_SPACE);
    return;
  }
  bool stored = store(world, mail);
  if (stored) {
    printf("mail %u from=%.*s to=%.*s domain=%.*s\n", world->count++, (int)mail->sender.len, (const char *)mail->sender.at, (int)mail->recipient.len,
           (const char *)mail->recipient.at, (int)mail->domain.len, (const char *)mail->domain.at);
    fflush(stdout);
  }
  tlsrpt_mail_done(mail, stored ? E_OK : E_IO);
}

static struct tlsrpt_policy *sts_policy_for(struct span domain) {
  uint8_t phrase[96];
  struct fmt why = fmt_over(phrase, sizeof phrase);
  struct sts_policy *sts;
  struct tlsrpt_policy *policy;
  must(sts_policy_parse(&sts, SPAN("version: STSv1\nmode: testing\nmx: *.mail.example\nmax_age: 86400\n"), &why) == E_OK);
  must(tlsrpt_policy_of_sts(&policy, domain, sts) == E_OK);
  sts_policy_drop(sts);
  return policy;
}

static void count_for(struct tlsrpt_view *view, struct span domain) {
  struct tlsrpt_failure failure = {.result = TLSRPT_CERTIFICATE_EXPIRED,
                                   .sending = {.family = 4, .bytes = {192, 0, 2, 1}},
                                   .receiving = {.family = 6, .bytes = {0x20, 1, 0xd, 0xb8, [15] = 7}},
                                   .mx_host = SPAN("mx1.mail.example"),
                                   .reason = SPAN("expired on \"1 Nov\"")};
  struct tlsrpt_policy *sts = sts_policy_for(domain), *tlsa;
  must(tlsrpt_policy_make(&tlsa, TLSRPT_POLICY_TLSA, SPAN("mx1.mail.example"), SPAN("3 1 1 0B9F\n2 0 1 AA\n"), span_of(NULL, 0)) == E_OK);
  for (unsigned i = 0; i < 3; i++) tlsrpt_success(view, domain, NULL);
  for (unsigned i = 0; i < 2; i++) tlsrpt_success(view, domain, sts);
  tlsrpt_failure(view, domain, sts, &failure);
  failure = (struct tlsrpt_failure){.result = TLSRPT_STARTTLS_NOT_SUPPORTED};
  for (unsigned i = 0; i < 2; i++) tlsrpt_failure(view, domain, tlsa, &failure);
  tlsrpt_policy_drop(sts);
  tlsrpt_policy_drop(tlsa);
}

static void complete(void *context, const struct io_completion *completion) { resolver_complete(context, completion); }

static int work(struct tlsrpt_options *options, const struct resolver_options *dns, struct world *world, char **names, unsigned count) {
  struct io_options io = {.sockets_max = 1024, .receive_buffers = 64, .receive_buffer_size = 4096};
  struct shard_group *group = NULL;
  struct resolver *resolver = NULL;
  struct tlsrpt *tlsrpt = NULL;
  static struct shard shard;
  const char *why = "out of memory";
  world->shard = &shard;
  if (shard_group_open(&group, 1) != E_OK || shard_init(&shard, group, 0, &io, &why) != E_OK ||
      resolver_open(&resolver, shard.io, &shard.wheel, dns, KIND) != E_OK || tlsrpt_open(&tlsrpt, options) != E_OK) {
    fprintf(stderr, "tlsrpt: %s\n", why);
    return 1;
  }
  shard_handle(&shard, KIND, complete, resolver);
  struct tlsrpt_view *view = tlsrpt_view(tlsrpt, 0, &shard, resolver);
  for (unsigned i = 0; i < count; i++) count_for(view, span_of_text(names[i]));
  puts("counted");
  fflush(stdout);
  while (!stop) shard_turn(&shard, io_now_ns(shard.io) + 50000000);
  errands_close(&shard); /* as at the end of shard_run */
  tlsrpt_stop(tlsrpt);
  resolver_close(resolver);
  shard_fini(&shard);
  tlsrpt_free(tlsrpt);
  shard_group_close(group);
  return 0;
}

static int usage(void) {
  fputs("usage: tlsrpt --server ADDRESS[:PORT] --out DIRECTORY [--file FILE] [--ca FILE] [--connect-to ADDRESS:PORT] [--timeout MS] [--spread MS] "
        "[--retry MS] [--save MS] [--refuse N] [DOMAIN...]\n",
        stderr);
  return 2;
}

int main(int argc, char **argv) {
  static const struct option names[] = {{"server", 1, NULL, 's'},     {"out", 1, NULL, 'o'},     {"file", 1, NULL, 'f'},   {"ca", 1, NULL, 'a'},
                                        {"connect-to", 1, NULL, 'c'}, {"timeout", 1, NULL, 't'}, {"spread", 1, NULL, 'S'}, {"retry", 1, NULL, 'r'},
                                        {"refuse", 1, NULL, 'R'},     {"save", 1, NULL, 'w'},    {NULL, 0, NULL, 0}};
  struct tlsrpt_options options = tlsrpt_defaults;
  struct netaddr server = {0};
  struct resolver_options dns = {.servers = &server, .servers_count = 1, .negative_ttl_max_s = 1};
  struct world world = {0};
  options.hostname = HOSTNAME;
  options.organization = "Example Relays \xc3\x84";
  options.contact = "tls-reports@example.net";
  options.submit = submit;
  options.say = say;
  options.context = &world;
  for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
    switch (option) {
    case 's':
      if (netaddr_parse_with_port(&server, span_of_text(optarg), 53) != E_OK) return usage();
      break;
    case 'o': world.out = optarg; break;
    case 'f': options.file = optarg; break;
    case 'a': options.ca_file = optarg; break;
    case 'c': options.connect_to = optarg; break;
    case 't': options.timeout_ms = (uint32_t)strtoul(optarg, NULL, 10); break;
    case 'S': options.sender.spread_ms = strtoull(optarg, NULL, 10); break;
    case 'r': options.sender.retry_ms = strtoull(optarg, NULL, 10); break;
    case 'w': options.save_ms = strtoull(optarg, NULL, 10); break;
    case 'R': world.refuse = (unsigned)strtoul(optarg, NULL, 10); break;
    default: return usage();
    }
  }
  if (server.family == 0 || world.out == NULL) return usage();
  signal(SIGTERM, on_signal);
  signal(SIGINT, on_signal);
  return work(&options, &dns, &world, argv + optind, (unsigned)(argc - optind));
}
