/*
 * setting: the numbers, durations, sizes and switches of the configuration, as one table: key, range, default, and where it goes in struct conf.
 * Validation and defaults are two passes over it.
 */
#ifndef CORE_CONF_SETTING_H
#define CORE_CONF_SETTING_H

#include "core/conf/conf.h"
#include "core/conf/raw.h"

/* What a reader of values needs to complain about one. */
struct reading {
  struct span text; /* the whole file */
  const struct report *report;
};

/* Reports `path`, with its line, and returns `error`. */
__attribute__((format(printf, 4, 5))) int reading_error(const struct reading *reading, int error, const char *path, const char *format, ...);

/* Checks every value there is and puts it into conf; what is missing stays as it is. E_SYNTAX or E_RANGE, reported. */
must_check int setting_read_all(struct conf *conf, const struct raw *raw, const struct reading *reading);
/* Gives every missing one its default. */
void setting_default_all(struct conf *conf, const struct raw *raw);

/* A port. `min` is 0 where the kernel may choose one. */
must_check int setting_port(uint16_t *port, const char *text, unsigned min, const char *path, const struct reading *reading);

/* A whole number, and a duration, that is no plain setting. */
must_check int setting_count(uint64_t *value, const char *text, uint64_t min, uint64_t max, const char *path, const struct reading *reading);
must_check int setting_duration(uint64_t *ms, const char *text, uint64_t min, uint64_t max, const char *path, const struct reading *reading);

must_check int setting_switch(bool *on, const char *text, const char *path, const struct reading *reading);

/* "2", "1.5": digits, at most one point and six digits behind it; 1 to 100. */
must_check int setting_factor(double *factor, const char *text, const char *path, const struct reading *reading);

/* The same two passes for an entry of `sites` (`base` is its path), whose defaults are the values of conf. Only what is a number here; the rest is sites.h's. */
must_check int setting_read_site(struct conf_site *site, const struct raw_site *raw, const char *base, const struct reading *reading);
void setting_default_site(struct conf_site *site, const struct raw_site *raw, const struct conf *conf);

/* Labels of letters, digits, hyphens and underscores, parted by dots; no dot at the end. An IPv4 address is no name. */
bool setting_is_name(struct span name);

/* For tests: calls `each` for every setting with the value it has in conf and its range. */
void setting_each(const struct conf *conf, void (*each)(void *context, const char *path, uint64_t value, uint64_t min, uint64_t max), void *context);

#endif
