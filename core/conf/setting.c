#include "core/conf/setting.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/base/error.h"
#include "core/conf/outline.h"

enum {
  NAME_BYTES_MAX = 253, /* RFC 1035 2.3.4: 255 octets on the wire */
  LABEL_BYTES_MAX = 63,
};

enum kind { COUNT, DURATION, SIZE, SWITCH, SHARE };

struct setting {
  const char *path;
  size_t from; /* in struct raw: char * */
  size_t to;   /* in struct conf */
  uint8_t width;
  enum kind kind;
  uint64_t min, max, fallback;
};

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)
#define SECOND ((uint64_t)1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define PERCENT ((uint64_t)10000) /* a share is in millionths */

/* The key is the member's place in struct raw, which mirrors the file. */
#define SETTING(member, target, kind, min, max, fallback)                                                                                            \
  { #member, offsetof(struct raw, member), offsetof(struct conf, target), sizeof(((struct conf *)NULL)->target), kind, min, max, fallback }

static const struct setting settings[] = {
    SETTING(shards, shards, COUNT, 0, 256, 0), /* 0: conf.c puts the number of cores */
    SETTING(sandbox, sandbox, SWITCH, 0, 1, true),
    SETTING(spool.segment_size, segment_size_bytes, SIZE, 8 * MIB, GIB, 64 * MIB),
    SETTING(spool.max_size, spool_max_bytes, SIZE, 0, 1024 * TIB, 0),
    SETTING(spool.min_free, spool_min_free_bytes, SIZE, 0, TIB, 256 * MIB),
    SETTING(tls.handshake_timeout, tls_handshake_ms, DURATION, SECOND, HOUR, 30 * SECOND),
    SETTING(clients.sessions, clients.sessions, COUNT, 0, 1000000, 100),
    SETTING(clients.connections, clients.connections, COUNT, 0, 1000000, 0),
    SETTING(clients.messages, clients.messages, COUNT, 0, 1000000, 0),
    SETTING(clients.recipients, clients.recipients, COUNT, 0, 10000000, 0),
    SETTING(clients.errors, clients.errors, COUNT, 0, 1000000, 60),
    SETTING(clients.greeting_delay, greeting_delay_ms, DURATION, 0, MINUTE, 0),
    SETTING(clients.error_delay, error_delay_ms, DURATION, 0, MINUTE, 0),
    SETTING(dns.timeout, dns_timeout_ms, DURATION, 10, MINUTE, 2 * SECOND),
    SETTING(dns.ipv6, dns_ipv6, SWITCH, 0, 1, true),
    SETTING(dns.dnssec, dns_dnssec, SWITCH, 0, 1, false), /* default: conf.c looks where the servers are */
    SETTING(queue.retry_initial, retry_initial_ms, DURATION, 1, 30 * DAY, 5 * MINUTE),
    SETTING(queue.retry_max, retry_max_ms, DURATION, 1, 30 * DAY, 4 * HOUR),
    SETTING(queue.retry_jitter, retry_jitter_ppm, SHARE, 0, 50 * PERCENT, 10 * PERCENT),
    SETTING(queue.max_age, max_age_ms, DURATION, 1, 365 * DAY, 5 * DAY),
    SETTING(delivery.port, delivery_port, COUNT, 1, 65535, 25),
    SETTING(delivery.connections_per_site, connections_per_site, COUNT, 1, 10000, 10),
    SETTING(delivery.messages_per_connection, messages_per_connection, COUNT, 1, 1000000, 100),
    SETTING(delivery.dane, dane, SWITCH, 0, 1, false), /* default: conf.c puts what dns.dnssec says */
    SETTING(delivery.mta_sts, mta_sts, SWITCH, 0, 1, true),
    SETTING(delivery.idle, idle_ms, DURATION, 1, DAY, 60 * SECOND),
    SETTING(delivery.pipelining, pipelining, SWITCH, 0, 1, true),
    SETTING(delivery.chunking, chunking, SWITCH, 0, 1, true),
    SETTING(delivery.timeouts.connect, timeout_connect_ms, DURATION, 1, DAY, 30 * SECOND),
    SETTING(delivery.timeouts.greeting, timeout_greeting_ms, DURATION, 1, DAY, 5 * MINUTE), /* RFC 5321 4.5.3.2.1 */
    SETTING(delivery.timeouts.command, timeout_command_ms, DURATION, 1, DAY, 5 * MINUTE),   /* 4.5.3.2.2 and .3 */
    SETTING(delivery.timeouts.data, timeout_data_ms, DURATION, 1, DAY, 3 * MINUTE),         /* 4.5.3.2.5 */
    SETTING(delivery.timeouts.final, timeout_final_ms, DURATION, 1, DAY, 10 * MINUTE),      /* 4.5.3.2.6 */
    SETTING(limits.sessions, sessions_max, COUNT, 1, 1000000, 32768),
    SETTING(limits.message_size, message_size_max, SIZE, KIB, GIB, 50 * MIB),
    SETTING(limits.recipients, recipients_max, COUNT, 1, 65535, 1000), /* a recipient's number in the spool has 16 bits */
    SETTING(limits.session_errors, session_errors_max, COUNT, 1, 1000000, 20),
    SETTING(limits.session_messages, session_messages_max, COUNT, 0, 1000000000, 0),
    SETTING(limits.session_timeout, session_timeout_ms, DURATION, 1, DAY, 5 * MINUTE), /* RFC 5321 4.5.3.2.7 */
    SETTING(limits.memory, memory_bytes, SIZE, MIB, 16 * TIB, 0),                      /* default: conf.c puts a quarter of the machine's */
    SETTING(limits.messages, queue_messages_max, COUNT, 1, 1000000000, 4000000),
    SETTING(dsn.send, dsn_send, SWITCH, 0, 1, true),
    SETTING(dsn.delay, dsn_delay_ms, DURATION, 0, 365 * DAY, 0),
    SETTING(dsn.return_max, dsn_return_max, SIZE, 0, 16 * MIB, 64 * KIB),
    SETTING(dsn.rate, dsn_rate, COUNT, 1, 1000000, 60),
    SETTING(events.file_size, events_file_size_bytes, SIZE, 64 * KIB, TIB, 256 * MIB),
    SETTING(events.files, events_files_max, COUNT, 0, 1000000, 0),
};
enum { SETTINGS = sizeof settings / sizeof *settings };

/* What an entry of `sites` may say too: range and default are those of the general setting, whose member in struct conf has the same name and type. */
struct site_setting {
  const char *key, *general;
  size_t from; /* in struct raw_site: char * */
  size_t to;   /* in struct conf_site */
};

#define SITE_SETTING(section, member, target)                                                                                                        \
  { #member, #section "." #member, offsetof(struct raw_site, member), offsetof(struct conf_site, target) }

static const struct site_setting site_settings[] = {
    SITE_SETTING(queue, retry_initial, retry_initial_ms),
    SITE_SETTING(queue, retry_max, retry_max_ms),
    SITE_SETTING(queue, retry_jitter, retry_jitter_ppm),
    SITE_SETTING(queue, max_age, max_age_ms),
    SITE_SETTING(delivery, connections_per_site, connections_per_site),
    SITE_SETTING(delivery, messages_per_connection, messages_per_connection),
};
enum { SITE_SETTINGS = sizeof site_settings / sizeof *site_settings };

int reading_error(const struct reading *reading, int error, const char *path, const char *format, ...) {
  char text[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return report_error(reading->report, error, outline_line(reading->text, path), path, "%s", text);
}

/* ---- the grammar of values ---- */

struct unit {
  const char *name;
  uint64_t factor;
};
static const struct unit time_units[] = {{"ms", 1}, {"s", SECOND}, {"m", MINUTE}, {"h", HOUR}, {"d", DAY}};
static const struct unit size_units[] = {{"KiB", KIB}, {"MiB", MIB}, {"GiB", GIB}, {"TiB", TIB}};
enum { TIME_UNITS = sizeof time_units / sizeof *time_units, SIZE_UNITS = sizeof size_units / sizeof *size_units };

static struct span take_digits(struct span *text) {
  size_t digits = 0;
  while (digits < text->len && ascii_is_digit(text->at[digits])) digits++;
  struct span number = span_first(*text, digits);
  *text = span_skip(*text, digits);
  return number;
}

/* "64KiB": digits, then one of the units; or without one, if `bare` allows the number. */
static int read_quantity(struct span text, const struct unit *units, unsigned count, bool (*bare)(uint64_t), uint64_t *value) {
  struct span number = take_digits(&text);
  uint64_t amount, factor = 0;
  if (number.len == 0) return E_SYNTAX;
  for (unsigned i = 0; i < count; i++)
    if (span_equal(text, span_of_text(units[i].name))) factor = units[i].factor;
  if (factor == 0 && text.len > 0) return E_SYNTAX;
  if (!span_to_u64(number, &amount)) return E_RANGE;
  if (factor == 0 && !bare(amount)) return E_SYNTAX;
  if (__builtin_mul_overflow(amount, factor == 0 ? 1 : factor, &amount)) return E_RANGE;
  *value = amount;
  return E_OK;
}

static bool is_zero(uint64_t amount) { return amount == 0; }
static bool is_any(uint64_t amount) {
  (void)amount;
  return true;
}

int conf_duration(struct span text, uint64_t *ms) { return read_quantity(text, time_units, TIME_UNITS, is_zero, ms); }
int conf_size(struct span text, uint64_t *bytes) { return read_quantity(text, size_units, SIZE_UNITS, is_any, bytes); }

static int read_count(struct span text, uint64_t *value) {
  struct span rest = text;
  if (take_digits(&rest).len == 0 || rest.len > 0) return E_SYNTAX;
  return span_to_u64(text, value) ? E_OK : E_RANGE;
}

static int read_switch(struct span text, uint64_t *value) {
  static const char *const words[2][3] = {{"false", "no", "off"}, {"true", "yes", "on"}};
  for (unsigned on = 0; on < 2; on++)
    for (unsigned i = 0; i < 3; i++)
      if (span_equal_nocase(text, span_of_text(words[on][i]))) {
        *value = on;
        return E_OK;
      }
  return E_SYNTAX;
}

/* Digits, at most one point and up to `digits` of them behind it, in units of that last digit. */
static int read_decimal(struct span text, unsigned digits, uint64_t *value) {
  ptrdiff_t point = span_find(text, '.');
  struct span whole = point < 0 ? text : span_first(text, (size_t)point), part = point < 0 ? SPAN("0") : span_skip(text, (size_t)point + 1);
  uint64_t units, fraction;
  if (part.len > digits || !span_to_u64(part, &fraction) || !span_to_u64(whole, &units)) return E_SYNTAX;
  for (size_t i = 0; i < digits; i++) {
    if (i >= part.len) fraction *= 10;
    if (__builtin_mul_overflow(units, 10, &units)) return E_RANGE;
  }
  return __builtin_add_overflow(units, fraction, value) ? E_RANGE : E_OK;
}

/* "10%", "12.5%", or as a fraction "0.1". */
static int read_share(struct span text, uint64_t *ppm) {
  bool percent = text.len > 0 && text.at[text.len - 1] == '%';
  return percent ? read_decimal(span_first(text, text.len - 1), 4, ppm) : read_decimal(text, 6, ppm);
}

static int read_value(enum kind kind, struct span text, uint64_t *value) {
  switch (kind) {
  case COUNT: return read_count(text, value);
  case DURATION: return conf_duration(text, value);
  case SIZE: return conf_size(text, value);
  case SWITCH: return read_switch(text, value);
  case SHARE: return read_share(text, value);
  }
  return E_SYNTAX;
}

/* With the largest unit that leaves a whole number. */
static const char *write_value(enum kind kind, uint64_t value, char room[32]) {
  if (kind == SHARE) { /* the ends of ranges are whole percents */
    snprintf(room, 32, "%" PRIu64 "%%", value / PERCENT);
    return room;
  }
  const struct unit *units = kind == DURATION ? time_units : size_units, *best = NULL;
  unsigned count = kind == DURATION ? TIME_UNITS : kind == SIZE ? SIZE_UNITS : 0;
  for (unsigned i = 0; i < count && value > 0; i++)
    if (value % units[i].factor == 0) best = &units[i];
  snprintf(room, 32, "%" PRIu64 "%s", best == NULL ? value : value / best->factor, best == NULL ? "" : best->name);
  return room;
}

/* ---- the two passes ---- */

static const char *const kind_words[] = {[COUNT] = "is no whole number",
                                         [DURATION] = "is no duration (like 300ms, 5s, 10m, 4h, 5d)",
                                         [SIZE] = "is no size (like 512, 64KiB, 50MiB, 1GiB)",
                                         [SWITCH] = "is neither true nor false",
                                         [SHARE] = "is no share (like 10% or 0.1)"};

static int complain(const struct setting *s, const char *text, int error, const struct reading *reading) {
  char quoted[REPORT_QUOTE_ROOM], low[32], high[32];
  report_quote(quoted, span_of_text(text));
  if (s->kind == SWITCH) return reading_error(reading, error, s->path, "%s %s", quoted, kind_words[s->kind]);
  write_value(s->kind, s->min, low);
  write_value(s->kind, s->max, high);
  if (error == E_RANGE) return reading_error(reading, error, s->path, "%s is out of range; it may be %s to %s", quoted, low, high);
  return reading_error(reading, error, s->path, "%s %s; it may be %s to %s", quoted, kind_words[s->kind], low, high);
}

static int check_value(const struct setting *s, const char *text, uint64_t *value, const struct reading *reading) {
  int error = read_value(s->kind, span_of_text(text), value);
  if (error == E_OK && (*value < s->min || *value > s->max)) error = E_RANGE;
  return error == E_OK ? E_OK : complain(s, text, error, reading);
}

static void put(void *object, size_t to, uint8_t width, uint64_t value) {
  uint8_t *at = (uint8_t *)object + to;
  switch (width) {
  case 1: *at = (uint8_t)value; break; /* a bool */
  case 2: memcpy(at, &(uint16_t){(uint16_t)value}, 2); break;
  case 4: memcpy(at, &(uint32_t){(uint32_t)value}, 4); break;
  default: memcpy(at, &value, 8); break;
  }
}

static uint64_t get(const struct conf *conf, const struct setting *s) {
  const uint8_t *at = (const uint8_t *)conf + s->to;
  uint16_t two;
  uint32_t four;
  uint64_t eight;
  switch (s->width) {
  case 1: return *at;
  case 2: memcpy(&two, at, 2); return two;
  case 4: memcpy(&four, at, 4); return four;
  default: memcpy(&eight, at, 8); return eight;
  }
}

static const char *text_of(const void *raw, size_t from) {
  const char *text;
  memcpy(&text, (const uint8_t *)raw + from, sizeof text);
  return text;
}

int setting_read_all(struct conf *conf, const struct raw *raw, const struct reading *reading) {
  for (unsigned i = 0; i < SETTINGS; i++) {
    const char *text = text_of(raw, settings[i].from);
    uint64_t value = 0;
    if (text == NULL) continue;
    int error = check_value(&settings[i], text, &value, reading);
    if (error != E_OK) return error;
    put(conf, settings[i].to, settings[i].width, value);
  }
  return E_OK;
}

void setting_default_all(struct conf *conf, const struct raw *raw) {
  for (unsigned i = 0; i < SETTINGS; i++)
    if (text_of(raw, settings[i].from) == NULL) put(conf, settings[i].to, settings[i].width, settings[i].fallback);
}

int setting_count(uint64_t *value, const char *text, uint64_t min, uint64_t max, const char *path, const struct reading *reading) {
  const struct setting s = {.path = path, .kind = COUNT, .min = min, .max = max};
  return check_value(&s, text, value, reading);
}

int setting_duration(uint64_t *ms, const char *text, uint64_t min, uint64_t max, const char *path, const struct reading *reading) {
  const struct setting s = {.path = path, .kind = DURATION, .min = min, .max = max};
  return check_value(&s, text, ms, reading);
}

int setting_port(uint16_t *port, const char *text, unsigned min, const char *path, const struct reading *reading) {
  uint64_t value = 0;
  int error = setting_count(&value, text, min, UINT16_MAX, path, reading);
  if (error == E_OK) *port = (uint16_t)value;
  return error;
}

int setting_switch(bool *on, const char *text, const char *path, const struct reading *reading) {
  const struct setting s = {.path = path, .kind = SWITCH, .max = 1};
  uint64_t value = 0;
  int error = check_value(&s, text, &value, reading);
  if (error == E_OK) *on = value == 1;
  return error;
}

/* ---- of one site ---- */

static const struct setting *general_of(const struct site_setting *site) {
  for (unsigned i = 0; i < SETTINGS; i++)
    if (strcmp(settings[i].path, site->general) == 0) return &settings[i];
  must(false);
}

int setting_read_site(struct conf_site *site, const struct raw_site *raw, const char *base, const struct reading *reading) {
  for (unsigned i = 0; i < SITE_SETTINGS; i++) {
    const char *text = text_of(raw, site_settings[i].from);
    char path[96];
    struct setting s = *general_of(&site_settings[i]);
    uint64_t value = 0;
    if (text == NULL) continue;
    snprintf(path, sizeof path, "%s.%s", base, site_settings[i].key);
    s.path = path;
    int error = check_value(&s, text, &value, reading);
    if (error != E_OK) return error;
    put(site, site_settings[i].to, s.width, value);
  }
  return E_OK;
}

void setting_default_site(struct conf_site *site, const struct raw_site *raw, const struct conf *conf) {
  for (unsigned i = 0; i < SITE_SETTINGS; i++) {
    const struct setting *general = general_of(&site_settings[i]);
    if (text_of(raw, site_settings[i].from) == NULL) put(site, site_settings[i].to, general->width, get(conf, general));
  }
}

/* ---- values that are no plain numbers ---- */

int setting_factor(double *factor, const char *text, const char *path, const struct reading *reading) {
  char quoted[REPORT_QUOTE_ROOM];
  uint64_t millionths = 0;
  int error = read_decimal(span_of_text(text), 6, &millionths);
  report_quote(quoted, span_of_text(text));
  if (error == E_SYNTAX) return reading_error(reading, error, path, "%s is no factor (like 2 or 1.5); it may be 1 to 100", quoted);
  if (error != E_OK || millionths < 1000000 || millionths > 100000000)
    return reading_error(reading, E_RANGE, path, "%s is out of range; it may be 1 to 100", quoted);
  *factor = (double)millionths / 1e6;
  return E_OK;
}

bool setting_is_name(struct span name) {
  size_t label = 0;
  struct netaddr address;
  if (name.len == 0 || name.len > NAME_BYTES_MAX || netaddr_parse(&address, name) == E_OK) return false;
  for (size_t i = 0; i < name.len; i++) {
    uint8_t c = name.at[i];
    bool ends = i + 1 == name.len || name.at[i + 1] == '.';
    if (c == '.') {
      if (label == 0 || ends) return false;
      label = 0;
    } else {
      bool hyphen_at_edge = c == '-' && (label == 0 || ends);
      if (!(ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_') || hyphen_at_edge || ++label > LABEL_BYTES_MAX) return false;
    }
  }
  return true;
}

void setting_each(const struct conf *conf, void (*each)(void *context, const char *path, uint64_t value, uint64_t min, uint64_t max), void *context) {
  for (unsigned i = 0; i < SETTINGS; i++) each(context, settings[i].path, get(conf, &settings[i]), settings[i].min, settings[i].max);
}
