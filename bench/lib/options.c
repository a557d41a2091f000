#include "bench/lib/options.h"

#include "core/base/error.h"

#include <stdio.h>
#include <stdlib.h>

struct unit {
  const char *suffix;
  uint64_t factor;
};

static const struct unit count_units[] = {{"", 1}, {"k", 1000}, {"M", 1000000}};
static const struct unit size_units[] = {{"", 1}, {"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
static const struct unit duration_units[] = {{"", 1000000000},  {"us", 1000},          {"ms", 1000000},
                                             {"s", 1000000000}, {"m", 60000000000ull}, {"h", 3600000000000ull}};

static bool with_unit(struct span text, const struct unit *units, size_t count, uint64_t *value) {
  size_t digits = 0;
  while (digits < text.len && ascii_is_digit(text.at[digits])) digits++;
  struct span suffix = span_skip(text, digits);
  uint64_t number;
  if (!span_to_u64(span_first(text, digits), &number)) return false;
  for (size_t i = 0; i < count; i++) {
    if (span_equal(suffix, span_of_text(units[i].suffix))) return !__builtin_mul_overflow(number, units[i].factor, value);
  }
  return false;
}

bool option_count(struct span text, uint64_t *value) { return with_unit(text, count_units, sizeof count_units / sizeof *count_units, value); }
bool option_size(struct span text, uint64_t *bytes) { return with_unit(text, size_units, sizeof size_units / sizeof *size_units, bytes); }
bool option_duration(struct span text, uint64_t *ns) { return with_unit(text, duration_units, sizeof duration_units / sizeof *duration_units, ns); }

static bool choose(const char *choices, struct span text, unsigned *chosen) {
  unsigned index = 0;
  for (const char *at = choices;; index++) {
    size_t len = strcspn(at, "|");
    if (span_equal(span_of(at, len), text)) {
      *chosen = index;
      return true;
    }
    if (at[len] == '\0') return false;
    at += len + 1;
  }
}

static bool append(struct option_list *list, const char *text) {
  if (list->count == OPTION_LIST_MAX) return false;
  list->items[list->count++] = text;
  return true;
}

static bool takes_value(enum option_kind kind) { return kind != OPTION_FLAG && kind != OPTION_OFF; }

static bool store(const struct option *option, const char *text) {
  struct span value = text == NULL ? span_of(NULL, 0) : span_of_text(text);
  switch (option->kind) {
  case OPTION_FLAG: *(bool *)option->target = true; return true;
  case OPTION_OFF: *(bool *)option->target = false; return true;
  case OPTION_COUNT: return option_count(value, option->target);
  case OPTION_SIZE: return option_size(value, option->target);
  case OPTION_DURATION: return option_duration(value, option->target);
  case OPTION_TEXT: *(const char **)option->target = text; return true;
  case OPTION_CHOICE: return choose(option->choices, value, option->target);
  case OPTION_LIST: return append(option->target, text);
  case OPTION_NONE:
  case OPTION_TITLE: break;
  }
  return false;
}

static const struct option *find(const struct option *table, size_t count, struct span name) {
  for (size_t i = 0; i < count; i++) {
    if (table[i].name != NULL && span_equal(span_of_text(table[i].name), name)) return &table[i];
  }
  return NULL;
}

int options_parse(const struct option *table, size_t count, int argc, char **argv, char *why, size_t why_size) {
  for (int i = 1; i < argc; i++) {
    const char *argument = argv[i];
    if (strncmp(argument, "--", 2) != 0) {
      snprintf(why, why_size, "unexpected argument '%s'", argument);
      return E_SYNTAX;
    }
    const char *name = argument + 2;
    size_t name_len = strcspn(name, "=");
    const char *value = name[name_len] == '=' ? name + name_len + 1 : NULL;
    const struct option *option = find(table, count, span_of(name, name_len));
    if (option == NULL) {
      snprintf(why, why_size, "unknown option '%s'", argument);
      return E_SYNTAX;
    }
    if (!takes_value(option->kind) && value != NULL) {
      snprintf(why, why_size, "--%s takes no value", option->name);
      return E_SYNTAX;
    }
    if (takes_value(option->kind) && value == NULL && (value = argv[++i]) == NULL) {
      snprintf(why, why_size, "--%s needs a value", option->name);
      return E_SYNTAX;
    }
    if (!store(option, value)) {
      snprintf(why, why_size, "--%s: '%s' is not valid%s%s", option->name, value, option->choices != NULL ? ", choose from " : "",
               option->choices != NULL ? option->choices : "");
      return E_SYNTAX;
    }
  }
  return E_OK;
}

static void print_option(const struct option *option) {
  enum { COLUMN = 28 };
  if (option->kind == OPTION_TITLE) {
    printf("\n%s:\n", option->help);
    return;
  }
  const char *metavar = option->choices != NULL ? option->choices : option->metavar != NULL ? option->metavar : "";
  int width = printf("  --%s %s", option->name, metavar);
  if (width >= COLUMN) {
    printf("\n");
    width = 0;
  }
  for (const char *line = option->help; line != NULL;) {
    size_t len = strcspn(line, "\n");
    printf("%*s%.*s\n", COLUMN - width, "", (int)len, line);
    line = line[len] == '\n' ? line + len + 1 : NULL;
    width = 0;
  }
}

static void print_help(const struct option_usage *usage, const struct option *table, size_t count) {
  printf("Usage: %s %s\n\n%s\n", usage->program, usage->synopsis, usage->about);
  if (count > 0 && table[0].kind != OPTION_TITLE) printf("\nOptions:\n");
  for (size_t i = 0; i < count; i++) print_option(&table[i]);
  printf("  --%-23s this text\n", "help");
  if (usage->more != NULL) printf("\n%s\n", usage->more);
}

void options_run(const struct option_usage *usage, const struct option *table, size_t count, int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") != 0) continue;
    print_help(usage, table, count);
    exit(0);
  }
  char why[256];
  if (options_parse(table, count, argc, argv, why, sizeof why) == E_OK) return;
  fprintf(stderr, "%s: %s (see %s --help)\n", usage->program, why, usage->program);
  exit(2);
}
