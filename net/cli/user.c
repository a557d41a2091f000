#include "net/cli/user.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "core/conf/conf.h"
#include "net/auth/users_edit.h"
#include "net/cli/prompt.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, WHY_ROOM = 512 };

static const char usage[] = "usage: ringpost ctl user (--config FILE | --file USERS) COMMAND [NAME] [OPTIONS]\n"
                            "\n"
                            "Changes the file of those who may authenticate; a running relay takes the new one within a second.\n"
                            "\n"
                            "  list                 the users and their settings\n"
                            "  add NAME             a new user; asks for the password\n"
                            "  passwd NAME          another password\n"
                            "  set NAME             other settings\n"
                            "  del NAME             the user is gone\n"
                            "\n"
                            "  --config FILE        the relay's configuration, whose `users` names the file\n"
                            "  --file USERS         the file itself\n"
                            "  --password-stdin     of add and passwd: the password is the first line of standard input\n"
                            "  --method PREFIX      of add and passwd: another method of crypt(5) than yescrypt, like '$6$'\n"
                            "  --no-scram           of add and passwd: without keys for SCRAM-SHA-256\n"
                            "of add and set (empty takes the setting away):\n"
                            "  --senders LIST       addresses, @domains and patterns with *, with commas between\n"
                            "  --per-minute N, --per-hour N, --per-day N      messages\n"
                            "  --recipients N       of a message\n"
                            "  --tenant NAME        for events\n"
                            "  --disable, --enable\n"
                            "\n"
                            "Exit status: 0 done, 1 it could not be done, 2 bad usage.\n";

enum { GIVEN_PASSWORD = 1, GIVEN_SETTING = 2 };

struct change {
  const char *config, *file;
  const char *method, *senders, *tenant;
  const char *counts[4]; /* as in count_options */
  bool from_stdin, no_scram, disable, enable;
  unsigned given;
  char *path;
  char hash[SECRET_HASH_MAX + 1]; /* of the password that was given */
  struct scram_keys keys;
};

static const char *const count_options[4] = {"per-minute", "per-hour", "per-day", "recipients"};

__attribute__((format(printf, 1, 2))) static int complain(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("ringpost ctl user: ", stderr);
  vfprintf(stderr, format, arguments);
  fputs(". Try `ringpost ctl user --help`.\n", stderr);
  va_end(arguments);
  return EXIT_USAGE;
}

static int fail(const struct fmt *why) {
  fprintf(stderr, "ringpost: %.*s\n", (int)why->len, (const char *)why->at);
  return EXIT_FAILED;
}

/* ---- the file ---- */

static int find_path(struct change *change) {
  uint8_t room[WHY_ROOM];
  struct fmt why = fmt_over(room, sizeof room);
  struct conf conf;
  if ((change->config == NULL) == (change->file == NULL)) return complain("it needs --config FILE or --file USERS");
  if (change->file != NULL) {
    change->path = strdup(change->file);
    return change->path != NULL ? 0 : EXIT_FAILED;
  }
  if (conf_read(&conf, change->config, &why) != E_OK) {
    (void)fail(&why);
    return EXIT_USAGE;
  }
  change->path = conf.users_path;
  conf.users_path = NULL;
  conf_free(&conf);
  return change->path != NULL ? 0 : complain("%s has no key `users`", change->config);
}

/* ---- what is changed ---- */

/* 0, or it was said what is wrong. */
static int take_password(struct change *change) {
  char room[SECRET_PASSWORD_MAX];
  size_t len = 0;
  const char *wrong = prompt_password(change->from_stdin, room, sizeof room, &len);
  struct span password = span_of(room, len);
  if (wrong == NULL && !secret_text_is_valid(password, SECRET_PASSWORD_MAX))
    wrong = len == 0 ? "the password is empty" : "the password has a control character, or is no UTF-8";
  if (wrong == NULL && secret_hash(password, change->method, change->hash) != E_OK) wrong = "there is no such method; see crypt(5)";
  if (wrong == NULL && !change->no_scram) scram_make(&change->keys, password);
  secret_wipe(room, sizeof room);
  if (wrong == NULL) return 0;
  fprintf(stderr, "ringpost: %s\n", wrong);
  return EXIT_FAILED;
}

static void set_password(struct change *change, struct user *user) {
  user->hash = change->hash;
  user->scram = change->keys;
}

static int take_counts(const struct change *change, struct user *user) {
  uint32_t *counts[4] = {&user->per_minute, &user->per_hour, &user->per_day, &user->recipients_max};
  for (unsigned i = 0; i < 4; i++) {
    const char *text = change->counts[i];
    uint64_t number = 0;
    if (text == NULL) continue;
    if (*text != '\0' && (!span_to_u64(span_of_text(text), &number) || number < 1 || number > 1000000000))
      return complain("--%s %s is no number from 1 to 1000000000", count_options[i], text);
    *counts[i] = (uint32_t)number;
  }
  return 0;
}

static int take_settings(const struct change *change, struct user *user) {
  if (change->senders != NULL) user->senders = span_of_text(change->senders);
  if (change->tenant != NULL) user->tenant = span_of_text(change->tenant);
  if (change->disable || change->enable) user->disabled = change->disable;
  return take_counts(change, user);
}

static bool has_blank(struct span text) { return span_find(text, ' ') >= 0 || span_find(text, '\t') >= 0; }

/* With the file locked. A blank in a value would be the end of its word: the line is read once more before it is written, and must say the same. */
static int put(struct users_edit *edit, const struct user *user) {
  uint8_t line[USERS_LINE_MAX], room[WHY_ROOM];
  char hash[SECRET_HASH_MAX + 1];
  struct fmt out = fmt_over(line, sizeof line), why = fmt_over(room, sizeof room);
  struct user again;
  users_write_line(&out, user);
  const char *wrong = out.overflow ? "the line is longer than 8192 bytes" : users_read_line(fmt_span(&out), &again, hash);
  bool same =
      wrong == NULL && span_equal(again.name, user->name) && span_equal(again.senders, user->senders) && span_equal(again.tenant, user->tenant);
  secret_wipe(line, sizeof line);
  secret_wipe(hash, sizeof hash);
  if (has_blank(user->name) || has_blank(user->senders) || has_blank(user->tenant)) wrong = "there is a blank in a name or value";
  if (wrong != NULL || !same) return complain("%s", wrong != NULL ? wrong : "a name cannot begin with #");
  return users_edit_put(edit, user, &why) == E_OK ? 0 : fail(&why);
}

/* ---- commands ---- */

static int with_file(struct change *change, const char *name, int (*run)(struct change *change, struct users_edit *edit, const char *name)) {
  uint8_t room[WHY_ROOM];
  struct fmt why = fmt_over(room, sizeof room);
  struct users_edit edit;
  int status = users_edit_begin(&edit, change->path, &why) == E_OK ? run(change, &edit, name) : fail(&why);
  users_edit_end(&edit);
  return status;
}

static int nobody(const char *name, const char *path) {
  fprintf(stderr, "ringpost: %s: there is no user %s\n", path, name);
  return EXIT_FAILED;
}

static int add_locked(struct change *change, struct users_edit *edit, const char *name) {
  char hash[SECRET_HASH_MAX + 1];
  struct user user;
  if (users_edit_find(edit, span_of_text(name), &user, hash)) {
    fprintf(stderr, "ringpost: %s: the user %s is there already\n", change->path, name);
    return EXIT_FAILED;
  }
  user = (struct user){.name = span_of_text(name)};
  int status = take_settings(change, &user);
  set_password(change, &user);
  return status == 0 ? put(edit, &user) : status;
}

static int passwd_locked(struct change *change, struct users_edit *edit, const char *name) {
  char hash[SECRET_HASH_MAX + 1];
  struct user user;
  if (!users_edit_find(edit, span_of_text(name), &user, hash)) return nobody(name, change->path);
  set_password(change, &user);
  int status = put(edit, &user);
  secret_wipe(hash, sizeof hash);
  return status;
}

static int set_locked(struct change *change, struct users_edit *edit, const char *name) {
  char hash[SECRET_HASH_MAX + 1];
  struct user user;
  if (!users_edit_find(edit, span_of_text(name), &user, hash)) return nobody(name, change->path);
  int status = take_settings(change, &user);
  if (status == 0) status = put(edit, &user);
  secret_wipe(hash, sizeof hash);
  return status;
}

static int del_locked(struct change *change, struct users_edit *edit, const char *name) {
  uint8_t room[WHY_ROOM];
  struct fmt why = fmt_over(room, sizeof room);
  (void)change;
  return users_edit_remove(edit, span_of_text(name), &why) == E_OK ? 0 : fail(&why);
}

static void show_count(const char *what, uint32_t count) {
  if (count > 0) printf(" %s=%u", what, count);
}

static void show(const struct user *user) {
  printf("%.*s %s%s", (int)user->name.len, (const char *)user->name.at, user->hash[0] != '\0' ? "password" : "no-password",
         user->scram.iterations > 0 ? " scram" : "");
  if (user->senders.len > 0) printf(" senders=%.*s", (int)user->senders.len, (const char *)user->senders.at);
  show_count("per_minute", user->per_minute);
  show_count("per_hour", user->per_hour);
  show_count("per_day", user->per_day);
  show_count("recipients", user->recipients_max);
  if (user->tenant.len > 0) printf(" tenant=%.*s", (int)user->tenant.len, (const char *)user->tenant.at);
  printf("%s\n", user->disabled ? " disabled" : "");
}

static int list(const struct change *change) {
  uint8_t room[WHY_ROOM];
  struct fmt why = fmt_over(room, sizeof room);
  struct users *users;
  if (users_load(&users, change->path, &why) != E_OK) return fail(&why);
  for (unsigned i = 0; i < users_count(users); i++) show(users_at(users, i));
  users_drop(users);
  return 0;
}

static const struct {
  const char *name;
  int (*run)(struct change *change, struct users_edit *edit, const char *name);
  unsigned takes;
} commands[] = {
    {"add", add_locked, GIVEN_PASSWORD | GIVEN_SETTING},
    {"passwd", passwd_locked, GIVEN_PASSWORD},
    {"set", set_locked, GIVEN_SETTING},
    {"del", del_locked, 0},
};

static int run(struct change *change, const char *command, const char *name) {
  if (strcmp(command, "list") == 0) {
    if (name != NULL || change->given != 0) return complain("list takes no more than the file");
    int status = find_path(change);
    return status == 0 ? list(change) : status;
  }
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    if (strcmp(command, commands[i].name) != 0) continue;
    if (name == NULL) return complain("%s needs a NAME", command);
    if ((change->given & ~commands[i].takes) != 0) return complain("an option is not for %s", command);
    if (commands[i].takes == GIVEN_SETTING && change->given == 0) return complain("set needs a setting");
    int status = find_path(change);
    if (status == 0 && (commands[i].takes & GIVEN_PASSWORD) != 0)
      status = take_password(change); /* before the file is locked: others need not wait for a person */
    return status == 0 ? with_file(change, name, commands[i].run) : status;
  }
  return complain("there is no command %s", command);
}

/* ---- arguments ---- */

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},     {"file", required_argument, NULL, 'f'},     {"password-stdin", no_argument, NULL, 'p'},
    {"method", required_argument, NULL, 'm'},     {"no-scram", no_argument, NULL, 'S'},       {"senders", required_argument, NULL, 's'},
    {"per-minute", required_argument, NULL, '0'}, {"per-hour", required_argument, NULL, '1'}, {"per-day", required_argument, NULL, '2'},
    {"recipients", required_argument, NULL, '3'}, {"tenant", required_argument, NULL, 't'},   {"disable", no_argument, NULL, 'd'},
    {"enable", no_argument, NULL, 'e'},           {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0}};

static bool take_option(struct change *change, int option) {
  if (option != 'c' && option != 'f') change->given |= option == 'p' || option == 'm' || option == 'S' ? GIVEN_PASSWORD : GIVEN_SETTING;
  switch (option) {
  case 'c': change->config = optarg; break;
  case 'f': change->file = optarg; break;
  case 'p': change->from_stdin = true; break;
  case 'm': change->method = optarg; break;
  case 'S': change->no_scram = true; break;
  case 's': change->senders = optarg; break;
  case '0':
  case '1':
  case '2':
  case '3': change->counts[option - '0'] = optarg; break;
  case 't': change->tenant = optarg; break;
  case 'd': change->disable = true; break;
  case 'e': change->enable = true; break;
  default: return false;
  }
  return true;
}

bool user_is_meant(int count, char **arguments) {
  for (int i = 0; i < count; i++) {
    if (strcmp(arguments[i], "--config") == 0 || strcmp(arguments[i], "--file") == 0) {
      i++;
    } else if (arguments[i][0] != '-') {
      return strcmp(arguments[i], "user") == 0;
    }
  }
  return false;
}

int user_command(int count, char **arguments) {
  struct change change = {.path = NULL};
  optind = 1;
  for (int option; (option = getopt_long(count + 1, arguments - 1, "h", options, NULL)) != -1;) {
    if (option == 'h') {
      fputs(usage, stdout);
      return 0;
    }
    if (take_option(&change, option)) continue;
    fputs("Try `ringpost ctl user --help`.\n", stderr);
    return EXIT_USAGE;
  }
  char **operands = arguments - 1 + optind; /* the first is `user` */
  int operands_count = count + 1 - optind;
  if (operands_count < 2) return complain("a command is missing");
  if (operands_count > 3) return complain("unexpected argument %s", operands[3]);
  if (change.disable && change.enable) return complain("--disable and --enable exclude each other");
  int status = run(&change, operands[1], operands_count > 2 ? operands[2] : NULL);
  free(change.path);
  secret_wipe(&change, sizeof change);
  return status;
}
