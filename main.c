/* ringpost: arguments and start. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "core/conf/conf.h"
#include "net/auth/users.h"
#include "net/cli/ctl.h"
#include "net/cli/serve.h"
#include "net/cli/spool.h"

static const char usage[] = "usage: ringpost --config FILE [--check]\n"
                            "       ringpost ctl COMMAND\n"
                            "       ringpost spool verify|dump DIR\n"
                            "\n"
                            "A bulk SMTP relay: takes mail over SMTP, stores it, and delivers it to the MX hosts of its recipients.\n"
                            "\n"
                            "  --config FILE   the configuration (YAML); an example with all keys: dist/ringpost.yaml\n"
                            "  --check         validate the configuration and exit\n"
                            "  --version       print the version and exit\n"
                            "  --help          print this and exit\n"
                            "  ctl             look at a running relay and act on its queue; more: ringpost ctl --help\n"
                            "  spool           look into a spool without running it; more: ringpost spool --help\n"
                            "\n"
                            "Runs in the foreground and logs to stderr; prints a line starting with `ready` when every listener accepts.\n"
                            "SIGHUP: read the configuration again; sessions go on.\n"
                            "SIGTERM: accept no more, finish transactions (30 s at most), sync, exit.\n"
                            "Exit status: 0 clean, 1 runtime failure, 2 bad usage or configuration.\n";

enum { EXIT_USAGE = 2 };

static int read_conf(struct conf *conf, const char *path) {
  char room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  if (conf_read(conf, path, &why) == 0) return 0;
  fprintf(stderr, "ringpost: %.*s\n", (int)why.len, room);
  return EXIT_USAGE;
}

/* What the configuration names is part of it. */
static int check_users(const struct conf *conf) {
  char room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  struct users *users = NULL;
  if (conf->users_path == NULL || users_load(&users, conf->users_path, &why) == 0) {
    users_drop(users);
    return 0;
  }
  fprintf(stderr, "ringpost: %.*s\n", (int)why.len, room);
  return EXIT_USAGE;
}

int main(int argc, char **argv) {
  static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                          {"check", no_argument, NULL, 'k'},
                                          {"version", no_argument, NULL, 'v'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  const char *path = NULL;
  int check = 0;
  if (argc > 1 && strcmp(argv[1], "ctl") == 0) return ctl_command(argc - 2, argv + 2);
  if (argc > 1 && strcmp(argv[1], "spool") == 0) return spool_command(argc - 2, argv + 2);
  for (int option; (option = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
    switch (option) {
    case 'c': path = optarg; break;
    case 'k': check = 1; break;
    case 'v': printf("ringpost %s\n", RINGPOST_VERSION); return 0;
    case 'h': fputs(usage, stdout); return 0;
    default: fputs("Try `ringpost --help`.\n", stderr); return EXIT_USAGE;
    }
  }
  if (path == NULL || optind < argc) {
    fputs(path == NULL ? "ringpost: --config FILE is missing. Try `ringpost --help`.\n" : "ringpost: unexpected argument. Try `ringpost --help`.\n",
          stderr);
    return EXIT_USAGE;
  }
  sigset_t reload;
  sigemptyset(&reload);
  sigaddset(&reload, SIGHUP);
  if (!check) sigprocmask(SIG_BLOCK, &reload, NULL); /* until serve() waits for it: else one that comes early would end us */
  struct conf conf;
  int status = read_conf(&conf, path);
  if (status != 0) return status;
  if (check) {
    status = check_users(&conf);
    if (status == 0) printf("%s: ok\n", path);
  } else {
    status = serve(&conf, path);
  }
  conf_free(&conf);
  return status;
}
