#include "net/cli/ctl_show.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CELL_MAX 512
#define COLUMNS_MAX 10

/* ---- values ---- */

static const char *text_of(const json_t *json, const char *key) {
  const char *text = json_string_value(json_object_get(json, key));
  return text != NULL ? text : "";
}

static int64_t number_of(const json_t *json, const char *key) { return (int64_t)json_number_value(json_object_get(json, key)); }

static bool is_set(const json_t *json, const char *key) { return json_is_true(json_object_get(json, key)); }

static bool has(const json_t *json, const char *key) {
  const json_t *value = json_object_get(json, key);
  return value != NULL && !json_is_null(value);
}

/* How many bytes of a character of UTF-8 (the text is valid) begin here. */
static size_t char_len(const char *at) {
  unsigned char c = (unsigned char)*at;
  return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* Terminals obey what others send: control characters (C0, C1, DEL) and what turns the direction of text do not get out. Whole characters only. */
static bool is_harmful(const char *at) {
  const unsigned char *c = (const unsigned char *)at;
  bool is_control = c[0] < 0x20 || c[0] == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0);
  bool turns = c[0] == 0xe2 && ((c[1] == 0x80 && ((c[2] >= 0x8e && c[2] <= 0x8f) || (c[2] >= 0xa8 && c[2] <= 0xae))) ||
                                (c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9));
  return is_control || turns;
}

static void put_safe(char *room, size_t size, const char *text) {
  size_t len = 0;
  for (size_t bytes; *text != '\0' && len + (bytes = char_len(text)) < size; text += bytes) {
    if (is_harmful(text)) {
      room[len++] = '?';
    } else {
      memcpy(room + len, text, bytes);
      len += bytes;
    }
  }
  room[len] = '\0';
}

/* In characters: a column of names in other alphabets is as straight as another, more or less. */
static int width_of(const char *text) {
  int count = 0;
  for (; *text != '\0'; text++) count += ((unsigned char)*text & 0xc0) != 0x80;
  return count;
}

void show_error_text(const char *text) {
  char room[1024];
  put_safe(room, sizeof room, text);
  fprintf(stderr, "ringpost ctl: %s\n", room);
}

/* "3d4h", "5m10s", "12s" */
static void put_span(char *room, size_t size, double seconds) {
  uint64_t s = seconds > 0 ? (uint64_t)seconds : 0;
  if (s >= 86400) {
    snprintf(room, size, "%" PRIu64 "d%" PRIu64 "h", s / 86400, s % 86400 / 3600);
  } else if (s >= 3600) {
    snprintf(room, size, "%" PRIu64 "h%" PRIu64 "m", s / 3600, s % 3600 / 60);
  } else if (s >= 60) {
    snprintf(room, size, "%" PRIu64 "m%" PRIu64 "s", s / 60, s % 60);
  } else {
    snprintf(room, size, "%" PRIu64 "s", s);
  }
}

static double now_s(void) { return (double)time(NULL); }

/* How long ago, or from now. */
static void put_distance(char *room, size_t size, const json_t *json, const char *key, bool to_come) {
  double at = json_number_value(json_object_get(json, key));
  if (!has(json, key)) {
    snprintf(room, size, "-");
  } else {
    put_span(room, size, to_come ? at - now_s() : now_s() - at);
  }
}

static void put_size(char *room, size_t size, int64_t bytes) {
  if (bytes >= 10 << 20) {
    snprintf(room, size, "%" PRId64 "MiB", bytes >> 20);
  } else if (bytes >= 10 << 10) {
    snprintf(room, size, "%" PRId64 "KiB", bytes >> 10);
  } else {
    snprintf(room, size, "%" PRId64 "B", bytes);
  }
}

/* ---- tables ---- */

enum cell { CELL_TEXT, CELL_NUMBER, CELL_AGE, CELL_TO_COME, CELL_SECONDS, CELL_SIZE, CELL_FLAG };

struct column {
  const char *head, *key;
  enum cell kind;
};

static void put_cell(char room[CELL_MAX], const json_t *row, const struct column *column) {
  switch (column->kind) {
  case CELL_TEXT: put_safe(room, CELL_MAX, text_of(row, column->key)); break;
  case CELL_NUMBER: snprintf(room, CELL_MAX, "%" PRId64, number_of(row, column->key)); break;
  case CELL_AGE: put_distance(room, CELL_MAX, row, column->key, false); break;
  case CELL_TO_COME: put_distance(room, CELL_MAX, row, column->key, true); break;
  case CELL_SIZE: put_size(room, CELL_MAX, number_of(row, column->key)); break;
  case CELL_FLAG: snprintf(room, CELL_MAX, "%s", is_set(row, column->key) ? "yes" : ""); break;
  case CELL_SECONDS:
    put_span(room, CELL_MAX, json_number_value(json_object_get(row, column->key)));
    if (json_number_value(json_object_get(row, column->key)) <= 0) snprintf(room, CELL_MAX, "-");
    break;
  }
  if (room[0] == '\0') snprintf(room, CELL_MAX, "-");
}

static bool is_right(enum cell kind) { return kind != CELL_TEXT && kind != CELL_FLAG; }

/* The last column is as wide as it is. */
static void put_padded(const char *text, int width, bool is_right, bool is_last) {
  int pad = is_last ? 0 : width - width_of(text);
  printf("%*s%s%*s", is_right ? pad : 0, "", text, is_right ? 0 : pad, "");
  fputs(is_last ? "\n" : "  ", stdout);
}

static void show_table(const json_t *rows, const struct column *columns, unsigned count) {
  int width[COLUMNS_MAX];
  char room[CELL_MAX];
  size_t i;
  const json_t *row;
  for (unsigned c = 0; c < count; c++) width[c] = width_of(columns[c].head);
  json_array_foreach(rows, i, row) for (unsigned c = 0; c < count; c++) {
    put_cell(room, row, &columns[c]);
    if (width_of(room) > width[c]) width[c] = width_of(room);
  }
  for (unsigned c = 0; c < count; c++) put_padded(columns[c].head, width[c], is_right(columns[c].kind), c + 1 == count);
  json_array_foreach(rows, i, row) for (unsigned c = 0; c < count; c++) {
    put_cell(room, row, &columns[c]);
    put_padded(room, width[c], is_right(columns[c].kind), c + 1 == count);
  }
}

#define SHOW_TABLE(rows, columns) show_table(rows, columns, sizeof(columns) / sizeof *(columns))

/* ---- answers ---- */

/* Of one that has just begun it need not be said since when. */
static void show_suspension(const json_t *one, bool is_new) {
  char what[CELL_MAX], reason[CELL_MAX], age[32], left[32];
  put_safe(what, sizeof what, has(one, "domain") ? text_of(one, "domain") : has(one, "site") ? text_of(one, "site") : "all mail");
  put_safe(reason, sizeof reason, text_of(one, "reason"));
  put_distance(age, sizeof age, one, "since", false);
  put_distance(left, sizeof left, one, "until", true);
  printf("suspended: %s%s%s%s%s%s%s%s\n", has(one, "site") ? "site " : "", what, is_new ? "" : " for ", is_new ? "" : age,
         has(one, "until") ? ", for another " : ", until resumed", has(one, "until") ? left : "", *reason != '\0' ? ": " : "", reason);
}

void show_suspensions(const json_t *json) {
  const json_t *list = json_is_array(json) ? json : json_object_get(json, "suspensions"), *one;
  size_t i;
  json_array_foreach(list, i, one) { show_suspension(one, false); }
  if (json_array_size(list) == 0) printf("nothing is suspended\n");
}

static void show_unloaded_if_any(const json_t *json) {
  if (number_of(json, "unloaded") > 0)
    printf("%" PRId64 " messages more wait on disk for room in memory, and are not in this list\n", number_of(json, "unloaded"));
}

static void show_suspensions_if_any(const json_t *json) {
  if (json_array_size(json_object_get(json, "suspensions")) == 0) return;
  printf("\n");
  show_suspensions(json);
}

static void show_total(const json_t *json, const char *list, const char *what) {
  const json_t *total = json_object_get(json, "total");
  int64_t count = number_of(total, "count");
  size_t shown = json_array_size(json_object_get(json, list));
  printf("\n%" PRId64 " %s: %" PRId64 " ready, %" PRId64 " in flight, %" PRId64 " deferred", count, what, number_of(total, "ready"),
         number_of(total, "in_flight"), number_of(total, "deferred"));
  if ((int64_t)shown < count) printf(" (the largest %zu are shown; --limit N shows more)", shown);
  printf("\n");
}

void show_queue(const json_t *json) {
  static const struct column columns[] = {{"DOMAIN", "domain", CELL_TEXT},      {"READY", "ready", CELL_NUMBER},
                                          {"FLIGHT", "in_flight", CELL_NUMBER}, {"DEFERRED", "deferred", CELL_NUMBER},
                                          {"OLDEST", "oldest", CELL_AGE},       {"SUSPENDED", "suspended", CELL_FLAG},
                                          {"SITE", "site", CELL_TEXT},          {"LAST ERROR", "last_error", CELL_TEXT}};
  SHOW_TABLE(json_object_get(json, "domains"), columns);
  show_total(json, "domains", "domains");
  show_unloaded_if_any(json);
  show_suspensions_if_any(json);
}

void show_sites(const json_t *json) {
  static const struct column columns[] = {{"SITE", "site", CELL_TEXT},
                                          {"READY", "ready", CELL_NUMBER},
                                          {"FLIGHT", "in_flight", CELL_NUMBER},
                                          {"CONNECTIONS", "connections", CELL_NUMBER},
                                          {"LIMIT", "connections_limit", CELL_NUMBER},
                                          {"OLDEST", "oldest_ready", CELL_AGE},
                                          {"BLOCKED", "blocked_s", CELL_SECONDS},
                                          {"SUSPENDED", "suspended", CELL_FLAG},
                                          {"LAST ERROR", "last_error", CELL_TEXT}};
  SHOW_TABLE(json_object_get(json, "sites"), columns);
  size_t shown = json_array_size(json_object_get(json, "sites"));
  int64_t count = number_of(json_object_get(json, "total"), "count");
  printf("\n%" PRId64 " sites (ready and in flight: transactions)", count);
  if ((int64_t)shown < count) printf("; the largest %zu are shown, --limit N shows more", shown);
  printf("\n");
  show_suspensions_if_any(json);
}

static void show_site(const json_t *site) {
  static const struct column columns[] = {{"HOST", "host", CELL_TEXT},
                                          {"ADDRESS", "address", CELL_TEXT},
                                          {"PREFERENCE", "preference", CELL_NUMBER},
                                          {"FAILURES", "failures", CELL_NUMBER},
                                          {"BLOCKED", "blocked_s", CELL_SECONDS}};
  char name[CELL_MAX], blocked[32];
  if (!json_is_object(site)) {
    printf("site: not known now\n");
    return;
  }
  put_safe(name, sizeof name, text_of(site, "name"));
  put_span(blocked, sizeof blocked, json_number_value(json_object_get(site, "blocked_s")));
  printf("site %s: %" PRId64 " connections, %" PRId64 " ready, %" PRId64 " in flight", name, number_of(site, "connections"), number_of(site, "ready"),
         number_of(site, "in_flight"));
  if (number_of(site, "failures") > 0) printf("; failed %" PRId64 " times in a row, left alone for another %s", number_of(site, "failures"), blocked);
  printf("\n\n");
  SHOW_TABLE(json_object_get(site, "hosts"), columns);
}

static void show_error(const json_t *json) {
  char error[CELL_MAX], age[32];
  if (!has(json, "last_error")) return;
  put_safe(error, sizeof error, text_of(json, "last_error"));
  put_distance(age, sizeof age, json, "last_error_at", false);
  printf("last error, %s ago: %s\n", age, error);
}

void show_domain_queue(const json_t *json) {
  static const struct column columns[] = {
      {"ID", "id", CELL_TEXT},         {"AGE", "created", CELL_AGE},          {"SIZE", "size", CELL_SIZE},
      {"STATE", "state", CELL_TEXT},   {"ATTEMPTS", "attempts", CELL_NUMBER}, {"NEXT TRY", "next_try", CELL_TO_COME},
      {"SENDER", "sender", CELL_TEXT}, {"RECIPIENT", "recipient", CELL_TEXT}};
  char name[CELL_MAX], reason[CELL_MAX];
  put_safe(name, sizeof name, text_of(json, "domain"));
  put_safe(reason, sizeof reason, text_of(json, "suspension_reason"));
  printf("%s: %" PRId64 " deferred, %" PRId64 " ready or in flight%s%s%s\n", name, number_of(json, "deferred"), number_of(json, "ready_or_in_flight"),
         is_set(json, "suspended") ? "; suspended" : "", *reason != '\0' ? ": " : "", reason);
  show_error(json);
  show_site(json_object_get(json, "site"));
  if (json_array_size(json_object_get(json, "messages")) == 0) return;
  printf("\n");
  SHOW_TABLE(json_object_get(json, "messages"), columns);
}

void show_message_text(const json_t *json) {
  const json_t *recipient;
  char sender[CELL_MAX], client[CELL_MAX], age[32], size[32];
  size_t i;
  put_safe(sender, sizeof sender, text_of(json, "sender"));
  put_safe(client, sizeof client, text_of(json, "client"));
  put_distance(age, sizeof age, json, "created", false);
  put_size(size, sizeof size, number_of(json, "size"));
  printf("%s from <%s>, %s, taken %s ago from %s, on shard %" PRId64 "%s\n", text_of(json, "id"), sender, size, age, client, number_of(json, "shard"),
         is_set(json, "stored") ? "" : ", only in memory");
  json_array_foreach(json_object_get(json, "recipients"), i, recipient) {
    char address[CELL_MAX], why[CELL_MAX], error[CELL_MAX], next[32];
    put_safe(address, sizeof address, text_of(recipient, "recipient"));
    put_safe(why, sizeof why, text_of(recipient, "why"));
    put_safe(error, sizeof error, text_of(recipient, "last_error"));
    put_distance(next, sizeof next, recipient, "next_try", true);
    printf("  <%s> %s, %" PRId64 " attempts", address, text_of(recipient, "state"), number_of(recipient, "attempts"));
    if (has(recipient, "next_try")) printf(", next try in %s", next);
    printf("\n");
    if (*why != '\0') printf("    %s\n", why);
    if (*error != '\0') printf("    last error of its domain: %s\n", error);
  }
}

void show_status(const json_t *json) {
  const char *key;
  json_t *value;
  char up[32];
  put_span(up, sizeof up, json_number_value(json_object_get(json, "uptime_s")));
  printf("ringpost %s, up for %s, %" PRId64 " shards\n", text_of(json, "version"), up, number_of(json, "shards"));
  json_object_foreach((json_t *)(uintptr_t)json, key, value) {
    if (!json_is_integer(value) || strcmp(key, "shards") == 0) continue;
    printf("%14" PRId64 "  ", (int64_t)json_integer_value(value));
    for (const char *c = key; *c != '\0'; c++) putchar(*c == '_' ? ' ' : *c);
    printf("\n");
  }
}

void show_done(const json_t *json) {
  const char *key;
  json_t *value;
  bool first = true;
  if (has(json, "since")) {
    show_suspension(json, true);
    return;
  }
  json_object_foreach((json_t *)(uintptr_t)json, key, value) {
    bool is_left = strcmp(key, "in_delivery") == 0, is_unloaded = strcmp(key, "unloaded") == 0;
    if (((is_left || is_unloaded) && json_integer_value(value) == 0) || strcmp(key, "as_loaded") == 0) continue;
    printf(first ? "" : "; ");
    first = false;
    if (json_is_true(value)) {
      printf("%s", key);
    } else if (is_unloaded) {
      printf("%" PRId64 " messages of any kind still wait on disk for room in memory, %s", (int64_t)json_integer_value(value),
             is_set(json, "as_loaded") ? "and those that are meant are given up as they are loaded, unless the relay is restarted before"
                                       : "and were not looked at: say it again when they are loaded (`status`: messages unloaded)");
    } else if (is_left) {
      const char *left = json_object_get(json, "bounced") != NULL ? "in flight" : "ready or in flight";
      printf("%" PRId64 " were %s already", (int64_t)json_integer_value(value), left);
    } else {
      printf("%s: %" PRId64, key, (int64_t)json_integer_value(value));
    }
  }
  printf("\n");
}
