#include "core/conf/sites.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/system.h"
#include "tests/lib/conf_sound.h"
#include "tests/lib/unit.h"

static char why_room[512];

static int parse(struct conf *conf, const char *text) {
  static const struct conf_system system = {.hostname = "host.example.com", .cores = 1, .memory_bytes = (uint64_t)8 << 30};
  struct fmt why = fmt_over(why_room, sizeof why_room - 1);
  int error = conf_parse_on(conf, &system, span_of_text(text), "c.yaml", &why);
  ck_assert(!why.overflow);
  why_room[why.len] = '\0';
  return error;
}

#define LISTENERS "listeners: [{port: 2525}]\n"

static struct conf conf_of(const char *sites) {
  struct conf conf;
  char text[8192];
  snprintf(text, sizeof text, LISTENERS "sites:\n%s", sites);
  ck_assert_msg(parse(&conf, text) == E_OK, "refused: %s", why_room);
  ck_assert_msg(conf_unsound(&conf) == NULL, "%s", conf_unsound(&conf));
  return conf;
}

/* The number of the entry for this name; -1: none. */
static int found(const struct conf *conf, const char *name) {
  const struct conf_site *site = sites_find(conf, span_of_text(name));
  return site == NULL ? -1 : (int)(site - conf->sites);
}

START_TEST(every_key_is_taken_over) {
  struct conf conf = conf_of(" - {match: [\"Example.ORG\", \"*.Google.com\"], retry_initial: 30m, retry_factor: 1.5, retry_max: 2h,\n"
                             "    retry_jitter: 0.25, max_age: 1d, connections_per_site: 3, messages_per_connection: 20}\n");
  ck_assert_uint_eq(conf.sites_count, 1);
  const struct conf_site *site = &conf.sites[0];
  ck_assert_uint_eq(site->match_count, 2);
  ck_assert_str_eq(site->match[0].key, "example.org");
  ck_assert_str_eq(site->match[1].key, ".google.com");
  ck_assert_uint_eq(site->retry_initial_ms, 1800000);
  ck_assert_double_eq(site->retry_factor, 1.5);
  ck_assert_uint_eq(site->retry_max_ms, 7200000);
  ck_assert_uint_eq(site->retry_jitter_ppm, 250000);
  ck_assert_uint_eq(site->max_age_ms, 86400000);
  ck_assert_uint_eq(site->connections_per_site, 3);
  ck_assert_uint_eq(site->messages_per_connection, 20);
  conf_free(&conf);
  conf_free(&conf); /* again: no harm */
}
END_TEST

START_TEST(what_is_missing_is_as_in_queue_and_delivery) {
  struct conf conf;
  ck_assert_int_eq(parse(&conf, LISTENERS "queue: {retry_initial: 1m, retry_factor: 3, retry_max: 1h, retry_jitter: 7%, max_age: 2d}\n"
                                          "delivery: {connections_per_site: 4}\n"
                                          "sites: [{match: [a.b], max_age: 1h}, {match: [c.d], retry_factor: 1, retry_initial: 1h}]\n"),
                   E_OK);
  ck_assert_ptr_null(conf_unsound(&conf));
  ck_assert_uint_eq(conf.sites[0].retry_initial_ms, 60000);
  ck_assert_double_eq(conf.sites[0].retry_factor, 3);
  ck_assert_uint_eq(conf.sites[0].retry_max_ms, 3600000);
  ck_assert_uint_eq(conf.sites[0].retry_jitter_ppm, 70000);
  ck_assert_uint_eq(conf.sites[0].max_age_ms, 3600000);
  ck_assert_uint_eq(conf.sites[0].connections_per_site, 4);
  ck_assert_uint_eq(conf.sites[0].messages_per_connection, 100);
  ck_assert_uint_eq(conf.sites[1].retry_initial_ms, 3600000);
  ck_assert_double_eq(conf.sites[1].retry_factor, 1);
  ck_assert_uint_eq(conf.sites[1].max_age_ms, 172800000);
  conf_free(&conf);
}
END_TEST

START_TEST(the_first_that_matches_counts) {
  struct conf conf = conf_of(" - {match: [mx.example.net]}\n"
                             " - {match: [\"*.deep.example.net\", example.org]}\n"
                             " - {match: [\"*.example.net\", \"*.com\"]}\n"
                             " - {match: [example.net, \"*.example.org\"]}\n");
  static const struct {
    const char *name;
    int site;
  } table[] = {
      {"mx.example.net", 0},
      {"a.mx.example.net", 2},
      {"example.net", 3},
      {"other.example.net", 2},
      {"deep.example.net", 2},
      {"a.deep.example.net", 1},
      {"a.b.example.net", 2},
      {"example.org", 1},
      {"a.example.org", 3},
      {"xexample.org", -1},
      {"example.org.example", -1},
      {"com", -1},
      {"x.com", 2},
      {"", -1},
      {".example.net", 2},
      {"192.0.2.1:25", -1},
      {"mx.exam#0123", -1},
      {"a..deep.example.net", 1},
  };
  for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++)
    ck_assert_msg(found(&conf, table[i].name) == table[i].site, "%s: %d", table[i].name, found(&conf, table[i].name));
  const struct conf_site *first = &conf.sites[0], *last = &conf.sites[3];
  ck_assert_ptr_eq(sites_earlier(first, last), first);
  ck_assert_ptr_eq(sites_earlier(last, first), first);
  ck_assert_ptr_eq(sites_earlier(NULL, last), last);
  ck_assert_ptr_eq(sites_earlier(first, NULL), first);
  ck_assert_ptr_null(sites_earlier(NULL, NULL));
  conf_free(&conf);
  conf = (struct conf){0};
  ck_assert_int_eq(found(&conf, "example.org"), -1);
}
END_TEST

/* Text and the whole line it gives. */
static const struct refusal {
  const char *text;
  int error;
  const char *why;
} refusals[] = {
    {"sites:\n - {max_age: 1d}\n", E_SYNTAX,
     "c.yaml:3: sites[0]: has no match; it needs a list of patterns (like match: [example.org, \"*.example.net\"])"},
    {"sites: [{match: []}]\n", E_SYNTAX, "c.yaml:2: sites[0].match: the list is empty; it needs one entry at least"},
    {"sites: [{match: a.b}]\n", E_SYNTAX, "c.yaml:2: sites[0].match: must be a list, like [one, two]"},
    {"sites:\n - match: [a.b]\n   idle: 1s\n", E_SYNTAX,
     "c.yaml:4: sites[0].idle: unknown key; known here are: match, retry_initial, retry_factor, retry_max, retry_jitter, max_age, "
     "connections_per_site, messages_per_connection, tls"},
    {"sites: []\n", E_SYNTAX, "c.yaml:2: sites: the list is empty; it needs one entry at least, or leave the key out"},
    {"sites: [{match: [\"*\"]}]\n", E_SYNTAX,
     "c.yaml:2: sites[0].match[0]: '*' would be for all destinations; what holds for all belongs into queue and delivery"},
    {"sites: [{match: [a.b, \"a.*.b\"]}]\n", E_SYNTAX,
     "c.yaml:2: sites[0].match[1]: 'a.*.b' is no pattern (like example.org, or \"*.example.net\" for all names below that)"},
    {"sites: [{match: [\"*a.b\"]}]\n", E_SYNTAX,
     "c.yaml:2: sites[0].match[0]: '*a.b' is no pattern (like example.org, or \"*.example.net\" for all names below that)"},
    {"sites: [{match: [\"*.\"]}]\n", E_SYNTAX,
     "c.yaml:2: sites[0].match[0]: '*.' is no pattern (like example.org, or \"*.example.net\" for all names below that)"},
    {"sites: [{match: [192.0.2.1]}]\n", E_SYNTAX,
     "c.yaml:2: sites[0].match[0]: '192.0.2.1' is no pattern (like example.org, or \"*.example.net\" for all names below that)"},
    {"sites:\n - match: [a.b]\n - match:\n    - c.d\n    - A.B\n", E_SYNTAX,
     "c.yaml:6: sites[1].match[1]: 'A.B' is listed already, in sites[0]; give each pattern once"},
    {"sites: [{match: [a.b, a.b]}]\n", E_SYNTAX, "c.yaml:2: sites[0].match[1]: 'a.b' is listed already, in sites[0]; give each pattern once"},
    {"sites:\n - match: [\"*.b\"]\n - match: [x.a.b]\n", E_SYNTAX,
     "c.yaml:4: sites[1].match[0]: 'x.a.b' never counts: \"*.b\" in sites[0] comes first and matches all of it; put this before that"},
    {"sites:\n - match: [\"*.b\"]\n - match: [\"*.a.b\"]\n", E_SYNTAX,
     "c.yaml:4: sites[1].match[0]: '*.a.b' never counts: \"*.b\" in sites[0] comes first and matches all of it; put this before that"},
    {"sites: [{match: [a.b], retry_initial: soon}]\n", E_SYNTAX,
     "c.yaml:2: sites[0].retry_initial: 'soon' is no duration (like 300ms, 5s, 10m, 4h, 5d); it may be 1ms to 30d"},
    {"sites: [{match: [a.b], retry_factor: 0.5}]\n", E_RANGE, "c.yaml:2: sites[0].retry_factor: '0.5' is out of range; it may be 1 to 100"},
    {"sites: [{match: [a.b], connections_per_site: 0}]\n", E_RANGE,
     "c.yaml:2: sites[0].connections_per_site: '0' is out of range; it may be 1 to 10000"},
    {"sites: [{match: [a.b], messages_per_connection: 0}]\n", E_RANGE,
     "c.yaml:2: sites[0].messages_per_connection: '0' is out of range; it may be 1 to 1000000"},
    {"sites: [{match: [a.b], max_age: 0}]\n", E_RANGE, "c.yaml:2: sites[0].max_age: '0' is out of range; it may be 1ms to 365d"},
    {"sites: [{match: [a.b]}, {match: [c.d], retry_initial: 5h}]\n", E_RANGE,
     "c.yaml:2: sites[1].retry_initial: retry_initial (5h) must not be longer than retry_max (as in queue)"},
    {"sites:\n - match: [c.d]\n   retry_max: 1m\n", E_RANGE,
     "c.yaml:4: sites[0].retry_max: retry_initial (as in queue) must not be longer than retry_max (1m)"},
    {"queue: {retry_jitter: 51%}\n", E_RANGE, "c.yaml:2: queue.retry_jitter: '51%' is out of range; it may be 0% to 50%"},
    {"queue: {retry_jitter: 10}\n", E_RANGE, "c.yaml:2: queue.retry_jitter: '10' is out of range; it may be 0% to 50%"},
    {"queue: {retry_jitter: some}\n", E_SYNTAX, "c.yaml:2: queue.retry_jitter: 'some' is no share (like 10% or 0.1); it may be 0% to 50%"},
    {"sites: [{match: [a.b], retry_jitter: -1%}]\n", E_SYNTAX,
     "c.yaml:2: sites[0].retry_jitter: '-1%' is no share (like 10% or 0.1); it may be 0% to 50%"},
};

START_TEST(what_is_refused_and_how_it_is_said) {
  struct conf conf;
  char text[1024];
  snprintf(text, sizeof text, LISTENERS "%s", refusals[_i].text);
  ck_assert_int_eq(parse(&conf, text), refusals[_i].error);
  ck_assert_str_eq(why_room, refusals[_i].why);
  ck_assert_ptr_null(conf.sites);
}
END_TEST

START_TEST(shares) {
  static const struct {
    const char *text;
    uint32_t ppm;
  } good[] = {{"0", 0},       {"0%", 0},       {"0.0", 0},      {"10%", 100000}, {"0.1", 100000},  {"12.5%", 125000}, {"0.125", 125000},
              {"0.0001%", 1}, {"0.000001", 1}, {"50%", 500000}, {"0.5", 500000}, {"00.5", 500000}, {"1.25%", 12500}};
  static const char *const bad[] = {
      "%", "1.%", ".1", "0.1.", "0.0000001", "0.00001%", "1 %", "10%%", "1e-1", "18446744073709551615%", "99999999999999999999"};
  struct conf conf;
  char text[256];
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    snprintf(text, sizeof text, LISTENERS "queue: {retry_jitter: \"%s\"}\n", good[i].text);
    ck_assert_msg(parse(&conf, text) == E_OK, "%s", why_room);
    ck_assert_uint_eq(conf.retry_jitter_ppm, good[i].ppm);
    conf_free(&conf);
  }
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    snprintf(text, sizeof text, LISTENERS "queue: {retry_jitter: \"%s\"}\n", bad[i]);
    ck_assert_msg(parse(&conf, text) != E_OK, "'%s' was taken", bad[i]);
  }
}
END_TEST

START_TEST(many_entries) {
  enum { ENTRIES = 5000 };
  char *text = malloc(ENTRIES * 64 + 128), name[64];
  struct conf conf;
  size_t len = (size_t)sprintf(text, LISTENERS "sites:\n");
  for (unsigned i = 0; i < ENTRIES; i++) len += (size_t)sprintf(text + len, " - {match: [d%u.example, \"*.d%u.example\"]}\n", i, i);
  ck_assert_msg(parse(&conf, text) == E_OK, "%s", why_room);
  for (int i = 0; i < ENTRIES; i += 7) {
    snprintf(name, sizeof name, "mx.d%d.example", i);
    ck_assert_int_eq(found(&conf, name), i);
    ck_assert_int_eq(found(&conf, name + 3), i);
  }
  conf_free(&conf);
  free(text);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, every_key_is_taken_over);
  tcase_add_test(all, what_is_missing_is_as_in_queue_and_delivery);
  tcase_add_test(all, the_first_that_matches_counts);
  tcase_add_loop_test(all, what_is_refused_and_how_it_is_said, 0, sizeof refusals / sizeof *refusals);
  tcase_add_test(all, shares);
  tcase_add_test(all, many_entries);
  return unit_main("core/conf/sites", &all, 1);
}
