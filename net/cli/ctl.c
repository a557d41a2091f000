#include "net/cli/ctl.h"

#include <curl/curl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf/conf.h"
#include "net/cli/ctl_show.h"
#include "net/cli/user.h"
#include "net/control/control.h"

#define ANSWER_TIMEOUT_S 60L
#define CONNECT_TIMEOUT_S 5L
#define NAME_MAX_BYTES 255 /* of a domain */

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const char usage[] = "usage: ringpost ctl [--config FILE | --http ADDRESS:PORT] [--json] COMMAND\n"
                            "\n"
                            "Looks at a running relay and acts on its queue, over its HTTP API.\n"
                            "\n"
                            "  status                      what it has done, and how it stands\n"
                            "  queue [--limit N]           what waits, by domain, the largest first (100)\n"
                            "  queue --sites [--limit N]   the same by site: connections, back-off, last failure\n"
                            "  queue DOMAIN [--limit N]    one domain: its site and hosts, its messages\n"
                            "  message ID                  one message: its recipients, their next try, and why they are not moving\n"
                            "  retry WHAT                  tries what is deferred now, and forgets what failed there\n"
                            "  bounce WHAT                 gives up what waits: AdminBounce, and a report to each sender (--quiet: none)\n"
                            "  suspend WHAT                begins no delivery there, also after a restart, until `resume` or for a time (--for)\n"
                            "  resume WHAT                 delivers there again (--all: whatever is suspended)\n"
                            "  suspensions                 what is suspended, since when and why\n"
                            "  reload                      reads the configuration again, like SIGHUP\n"
                            "  user ...                    changes the file of those who may authenticate: `ringpost ctl user --help`\n"
                            "  help                        this\n"
                            "\n"
                            "WHAT is DOMAIN, --site NAME, --message ID (retry and bounce) or --all.\n"
                            "\n"
                            "  --config FILE        the relay's configuration: where its API is (http.address, http.port)\n"
                            "  --http ADDRESS:PORT  where its API is; without either 127.0.0.1:8025\n"
                            "  --reason TEXT        of bounce and suspend: for events, reports and colleagues\n"
                            "  --for DURATION       of suspend: 30m, 4h, 2d\n"
                            "  --json               the API's own answer (docs/API.md)\n"
                            "\n"
                            "Exit status: 0 done, 1 refused or not reachable, 2 bad usage.\n";

struct ctl {
  CURL *curl;
  char base[128]; /* http://ADDRESS:PORT/api/v1/ */
  const char *config, *http;
  bool json, sites, quiet, all;
  unsigned given; /* which of the options that are for some commands only */
  const char *limit, *site, *message, *reason, *time;
  char *answer;
  size_t answer_len;
};

__attribute__((format(printf, 1, 2))) static int complain(const char *format, ...) {
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  for (char *at = line; *at != '\0'; at++) { /* a pasted word is no order to the terminal; it need not be UTF-8 */
    bool is_c1 = (unsigned char)at[0] == 0xc2 && (unsigned char)at[1] >= 0x80 && (unsigned char)at[1] < 0xa0;
    if (is_c1) at[1] = '?';
    if (is_c1 || (unsigned char)*at < ' ' || *at == 0x7f) *at = '?';
  }
  fprintf(stderr, "ringpost ctl: %s. Try `ringpost ctl --help`.\n", line);
  return EXIT_USAGE;
}

/* ---- where ---- */

static void set_base(struct ctl *ctl, const struct netaddr *address) {
  struct fmt out = fmt_over(ctl->base, sizeof ctl->base - 1);
  fmt_text(&out, "http://");
  netaddr_format_with_port(address, &out);
  fmt_text(&out, "/api/v1/");
  ctl->base[out.len] = '\0';
}

static int base_from_conf(struct ctl *ctl) {
  char room[512];
  struct fmt why = fmt_over(room, sizeof room - 1);
  struct conf conf;
  if (conf_read(&conf, ctl->config, &why) != 0) {
    fprintf(stderr, "ringpost ctl: %.*s\n", (int)why.len, room);
    return EXIT_USAGE;
  }
  struct netaddr address = conf.http;
  conf_free(&conf);
  if (address.family == 0) return complain("%s has no http.address: the relay has no API", ctl->config);
  static const struct netaddr loopback[] = {{.family = 4, .bytes = {127, 0, 0, 1}}, {.family = 6, .bytes = {[15] = 1}}};
  uint16_t port = address.port;
  if (netaddr_is_any(&address)) address = loopback[address.family == 6];
  address.port = port;
  set_base(ctl, &address);
  return 0;
}

static int find_base(struct ctl *ctl) {
  struct netaddr address = {.family = 4, .port = 8025, .bytes = {127, 0, 0, 1}};
  if (ctl->config != NULL && ctl->http != NULL) return complain("--config and --http exclude each other");
  if (ctl->config != NULL) return base_from_conf(ctl);
  if (ctl->http != NULL && (netaddr_parse_with_port(&address, span_of_text(ctl->http), 8025) != 0))
    return complain("--http %s is no address (like 127.0.0.1:8025)", ctl->http);
  set_base(ctl, &address);
  return 0;
}

/* ---- the request ---- */

static size_t on_bytes(char *bytes, size_t size, size_t count, void *context) {
  struct ctl *ctl = context;
  char *grown = realloc(ctl->answer, ctl->answer_len + size * count + 1);
  if (grown == NULL) return 0;
  memcpy(grown + ctl->answer_len, bytes, size * count);
  ctl->answer = grown;
  ctl->answer_len += size * count;
  ctl->answer[ctl->answer_len] = '\0';
  return size * count;
}

/* `body` NULL: GET. Gives the status, 0 if there was no answer (which is then said). */
static long request(struct ctl *ctl, const char *path, const char *body) {
  char url[2400], error[CURL_ERROR_SIZE] = "";
  long status = 0;
  struct curl_slist *headers = body == NULL ? NULL : curl_slist_append(NULL, "Content-Type: application/json");
  snprintf(url, sizeof url, "%s%s", ctl->base, path);
  curl_easy_reset(ctl->curl); /* nothing of a request before, whose body is gone */
  curl_easy_setopt(ctl->curl, CURLOPT_URL, url);
  curl_easy_setopt(ctl->curl, CURLOPT_PROXY, ""); /* whatever the environment says: it is our own host, or one that was named */
  curl_easy_setopt(ctl->curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(ctl->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
  if (body == NULL) curl_easy_setopt(ctl->curl, CURLOPT_TIMEOUT, ANSWER_TIMEOUT_S); /* a bounce of a million takes as long as it takes */
  curl_easy_setopt(ctl->curl, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(ctl->curl, CURLOPT_WRITEFUNCTION, on_bytes);
  curl_easy_setopt(ctl->curl, CURLOPT_WRITEDATA, ctl);
  curl_easy_setopt(ctl->curl, CURLOPT_HTTPHEADER, headers);
  if (body != NULL) curl_easy_setopt(ctl->curl, CURLOPT_POSTFIELDS, body);
  CURLcode code = curl_easy_perform(ctl->curl);
  if (code == CURLE_OK) {
    curl_easy_getinfo(ctl->curl, CURLINFO_RESPONSE_CODE, &status);
  } else {
    fprintf(stderr, "ringpost ctl: %s: %s\n", ctl->base, *error != '\0' ? error : curl_easy_strerror(code));
  }
  curl_slist_free_all(headers);
  return status;
}

static int show(const struct ctl *ctl, long status, void (*print)(const json_t *json)) {
  json_error_t wrong;
  json_t *json = ctl->answer == NULL ? NULL : json_loadb(ctl->answer, ctl->answer_len, 0, &wrong);
  const char *error = json_string_value(json_object_get(json, "error"));
  if (status == 0) {
    /* said already */
  } else if (status != 200) {
    show_error_text(error != NULL ? error : "the relay's answer is not from its API");
  } else if (ctl->json) {
    fputs(ctl->answer, stdout);
  } else if (json != NULL) {
    print(json);
  }
  json_decref(json);
  return status == 200 ? 0 : EXIT_FAILED;
}

/* ---- commands ---- */

static int get(struct ctl *ctl, const char *path, void (*print)(const json_t *json)) { return show(ctl, request(ctl, path, NULL), print); }

/* path/NAME?limit=N, encoded. */
static int get_named(struct ctl *ctl, const char *path, const char *name, const char *query, void (*print)(const json_t *json)) {
  char whole[2200];
  char *encoded = curl_easy_escape(ctl->curl, name, 0);
  char *limit = curl_easy_escape(ctl->curl, ctl->limit != NULL ? ctl->limit : "", 0);
  snprintf(whole, sizeof whole, "%s%s?%s%s%s", path, encoded != NULL ? encoded : "", query, ctl->limit != NULL ? "&limit=" : "",
           ctl->limit != NULL && limit != NULL ? limit : "");
  curl_free(encoded);
  curl_free(limit);
  return get(ctl, whole, print);
}

static int queue(struct ctl *ctl, const char *domain) {
  if (domain != NULL && ctl->sites) return complain("queue DOMAIN and queue --sites are two commands");
  if (domain != NULL) return get_named(ctl, "queue/", domain, "", show_domain_queue);
  return ctl->sites ? get_named(ctl, "queue", "", "by=site", show_sites) : get_named(ctl, "queue", "", "", show_queue);
}

/* False: it is no UTF-8. */
static bool put_text(json_t *body, const char *key, const char *text) {
  return text == NULL || json_object_set_new(body, key, json_string(text)) == 0;
}

static char *make_body(const struct ctl *ctl, const char *domain) {
  json_t *body = json_object();
  bool is_text = put_text(body, "domain", domain) && put_text(body, "site", ctl->site) && put_text(body, "message", ctl->message) &&
                 put_text(body, "reason", ctl->reason) && put_text(body, "for", ctl->time);
  if (ctl->all) json_object_set_new(body, "all", json_true());
  if (ctl->quiet) json_object_set_new(body, "quiet", json_true());
  char *text = is_text ? json_dumps(body, JSON_COMPACT) : NULL;
  json_decref(body);
  return text;
}

static bool is_ok_or_none(const char *text, bool (*is_ok)(struct span text)) { return text == NULL || is_ok(span_of_text(text)); }

/* What the relay would refuse however it stands is bad usage. 0: it is fine. */
static int check_order(const struct ctl *ctl, const char *domain) {
  uint64_t ms;
  if (!is_ok_or_none(domain, control_is_domain)) return complain("%s is no domain (like example.org, without * or @)", domain);
  if (!is_ok_or_none(ctl->site, control_is_site)) return complain("--site %s is no name of a site", ctl->site);
  if (!is_ok_or_none(ctl->message, control_is_id)) return complain("--message %s is no id (up to 16 hexadecimal digits)", ctl->message);
  if (!is_ok_or_none(ctl->reason, control_is_reason))
    return complain("--reason takes a line of at most %d bytes, without control characters", CONTROL_REASON_MAX);
  if (ctl->time != NULL && !control_read_for(span_of_text(ctl->time), &ms))
    return complain("--for %s is no duration (10m, 4h or 2d; " CONTROL_FOR_MAX " at most)", ctl->time);
  return 0;
}

static bool is_named(const json_t *suspension, const char *key, struct span name) {
  const char *text = json_string_value(json_object_get(suspension, key));
  return text != NULL && span_equal_nocase(span_of_text(text), name);
}

/* Who tries again what is suspended would wait in vain. */
static void hint_at_suspensions(struct ctl *ctl, const char *domain) {
  struct span name = span_of_text(domain != NULL ? domain : ""), site = span_of_text(ctl->site != NULL ? ctl->site : "");
  size_t i;
  json_t *one;
  bool is_suspended = false;
  if (name.len > 1 && name.at[name.len - 1] == '.') name.len--; /* of the root */
  free(ctl->answer);
  ctl->answer = NULL;
  ctl->answer_len = 0;
  json_t *json = request(ctl, "suspensions", NULL) == 200 ? json_loadb(ctl->answer, ctl->answer_len, 0, NULL) : NULL;
  json_array_foreach(json_object_get(json, "suspensions"), i, one) {
    is_suspended |= ctl->all || json_is_true(json_object_get(one, "all")) || is_named(one, "domain", name) || is_named(one, "site", site);
  }
  json_decref(json);
  if (is_suspended) puts("what is suspended does not move before it is resumed (`ringpost ctl suspensions`)");
}

static int post(struct ctl *ctl, const char *command, const char *domain) {
  int wrong = check_order(ctl, domain);
  int targets = (domain != NULL) + (ctl->site != NULL) + (ctl->message != NULL) + ctl->all;
  if (wrong != 0) return wrong;
  if (targets != 1) return complain("%s needs one of: DOMAIN, --site NAME, --message ID, --all", command);
  char *body = make_body(ctl, domain);
  if (body == NULL) return complain("that is no UTF-8 text");
  int status = show(ctl, request(ctl, command, body), show_done);
  free(body);
  if (status == 0 && !ctl->json && strcmp(command, "retry") == 0) hint_at_suspensions(ctl, domain);
  return status;
}

static int message(struct ctl *ctl, const char *id) {
  if (id == NULL) return complain("message needs an ID");
  if (!control_is_id(span_of_text(id))) return complain("message %s is no id (up to 16 hexadecimal digits)", id);
  return get_named(ctl, "message/", id, "", show_message_text);
}

static int status(struct ctl *ctl, const char *command) { return get(ctl, command, show_status); }

static int suspensions(struct ctl *ctl, const char *command) { return get(ctl, command, show_suspensions); }

static int reload(struct ctl *ctl, const char *command) { return show(ctl, request(ctl, command, "{}"), show_done); }

/* Options that are for some commands only: one that would be passed over is a mistake, and may be a bad one. */
enum {
  OPTION_SITES = 1,
  OPTION_LIMIT = 2,
  OPTION_SITE = 4,
  OPTION_MESSAGE = 8,
  OPTION_ALL = 16,
  OPTION_REASON = 32,
  OPTION_FOR = 64,
  OPTION_QUIET = 128,
};

static const struct {
  const char *name;
  int (*run)(struct ctl *ctl, const char *operand); /* of those that take none: the name */
  bool takes_operand;
  unsigned options;
} commands[] = {
    {"status", status, false, 0},
    {"queue", queue, true, OPTION_SITES | OPTION_LIMIT},
    {"message", message, true, 0},
    {"retry", NULL, true, OPTION_SITE | OPTION_MESSAGE | OPTION_ALL},
    {"bounce", NULL, true, OPTION_SITE | OPTION_MESSAGE | OPTION_ALL | OPTION_REASON | OPTION_QUIET},
    {"suspend", NULL, true, OPTION_SITE | OPTION_ALL | OPTION_REASON | OPTION_FOR},
    {"resume", NULL, true, OPTION_SITE | OPTION_ALL},
    {"suspensions", suspensions, false, 0},
    {"reload", reload, false, 0},
};

static const char *name_of_option(unsigned option);

/* 0: it is fine. */
static int check_limit(const char *text, uint64_t most) {
  uint64_t value;
  if (text == NULL || (span_to_u64(span_of_text(text), &value) && value <= most)) return 0;
  return complain("--limit %s is no number up to %" PRIu64, text, most);
}

static int run(struct ctl *ctl, const char *command, const char *operand) {
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    if (strcmp(commands[i].name, command) != 0) continue;
    unsigned strange = ctl->given & ~commands[i].options;
    if (strange != 0) return complain("--%s is not for %s", name_of_option(strange & -strange), command);
    if (check_limit(ctl->limit, operand != NULL ? CONTROL_MESSAGES_MAX : CONTROL_LIST_MAX) != 0) return EXIT_USAGE;
    if (operand != NULL && !commands[i].takes_operand) return complain("unexpected argument %s", operand);
    if (operand != NULL && strlen(operand) > NAME_MAX_BYTES) return complain("a name has at most %d bytes", NAME_MAX_BYTES);
    if (commands[i].run == NULL) return post(ctl, command, operand);
    return commands[i].run(ctl, commands[i].takes_operand ? operand : command);
  }
  return complain("there is no command %s", command);
}

static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                        {"http", required_argument, NULL, 'a'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"sites", no_argument, NULL, 's'},
                                        {"limit", required_argument, NULL, 'l'},
                                        {"site", required_argument, NULL, 'S'},
                                        {"message", required_argument, NULL, 'm'},
                                        {"all", no_argument, NULL, 'A'},
                                        {"reason", required_argument, NULL, 'r'},
                                        {"for", required_argument, NULL, 'f'},
                                        {"quiet", no_argument, NULL, 'q'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

static unsigned bit_of(int option) {
  switch (option) {
  case 's': return OPTION_SITES;
  case 'l': return OPTION_LIMIT;
  case 'S': return OPTION_SITE;
  case 'm': return OPTION_MESSAGE;
  case 'A': return OPTION_ALL;
  case 'r': return OPTION_REASON;
  case 'f': return OPTION_FOR;
  case 'q': return OPTION_QUIET;
  default: return 0;
  }
}

static const char *name_of_option(unsigned bit) {
  const struct option *option = options;
  while (option->name != NULL && bit_of(option->val) != bit) option++;
  return option->name;
}

static bool take_option(struct ctl *ctl, int option) {
  ctl->given |= bit_of(option);
  switch (option) {
  case 'c': ctl->config = optarg; break;
  case 'a': ctl->http = optarg; break;
  case 'j': ctl->json = true; break;
  case 's': ctl->sites = true; break;
  case 'l': ctl->limit = optarg; break;
  case 'S': ctl->site = optarg; break;
  case 'm': ctl->message = optarg; break;
  case 'A': ctl->all = true; break;
  case 'r': ctl->reason = optarg; break;
  case 'f': ctl->time = optarg; break;
  case 'q': ctl->quiet = true; break;
  default: return false;
  }
  return true;
}

int ctl_command(int count, char **arguments) {
  static char name[] = "ringpost ctl";
  struct ctl ctl = {.curl = NULL};
  if (user_is_meant(count, arguments)) return user_command(count, arguments);
  arguments[-1] = name; /* what getopt says begins with it */
  optind = 1;
  for (int option; (option = getopt_long(count + 1, arguments - 1, "h", options, NULL)) != -1;) {
    if (option == 'h') {
      fputs(usage, stdout);
      return 0;
    }
    if (take_option(&ctl, option)) continue;
    fputs("Try `ringpost ctl --help`.\n", stderr);
    return EXIT_USAGE;
  }
  char **operands = arguments - 1 + optind;
  int operands_count = count + 1 - optind;
  if (operands_count == 0) return complain("a command is missing");
  if (strcmp(operands[0], "help") == 0) {
    fputs(usage, stdout);
    return 0;
  }
  if (operands_count > 2) return complain("unexpected argument %s", operands[2]);
  int status = find_base(&ctl);
  if (status != 0) return status;
  ctl.curl = curl_easy_init();
  if (ctl.curl == NULL) return EXIT_FAILED;
  status = run(&ctl, operands[0], operands_count > 1 ? operands[1] : NULL);
  curl_easy_cleanup(ctl.curl);
  free(ctl.answer);
  return status;
}
