/* What the API reads by itself: ids and targets; and text of any bytes as JSON. */
#include <stdio.h>
#include <stdlib.h>

#include "net/control/inside.h"
#include "tests/lib/unit.h"

static uint32_t chance;
static uint32_t any(uint32_t below) {
  chance = chance * 1664525u + 1013904223u;
  return (chance >> 8) % below;
}

START_TEST(an_id_comes_back_as_it_was) {
  chance = 1;
  for (unsigned i = 0; i < 100000; i++) {
    uint64_t id = (((uint64_t)any(1 << 22) << 42) ^ ((uint64_t)any(1 << 22) << 21) ^ any(1 << 22)) >> any(64), back = 1;
    json_t *json = json_id(id);
    char text[32];
    snprintf(text, sizeof text, "%s", json_string_value(json));
    ck_quick(strlen(text) == 16 && parse_id(span_of_text(text), &back) && back == id);
    for (char *c = text; *c != '\0'; c++) *c = (char)(any(2) == 0 && *c >= 'a' ? *c - 32 : *c);
    ck_quick(parse_id(span_of_text(text), &back) && back == id);
    snprintf(text, sizeof text, "%llx", (unsigned long long)id); /* without zeros in front */
    ck_quick(parse_id(span_of_text(text), &back) && back == id);
    json_decref(json);
  }
}
END_TEST

/* Whatever the bytes: taken if and only if they are one to sixteen hexadecimal digits. */
START_TEST(nothing_else_is_an_id) {
  static const char some[] = "0123456789abcdefABCDEF gGx-+.\xc3\x00";
  chance = 2;
  for (unsigned i = 0; i < 200000; i++) {
    char text[24];
    size_t len = any(20);
    bool is_hex = len >= 1 && len <= 16;
    uint32_t of = any(3) == 0 ? sizeof some : 22;
    for (size_t at = 0; at < len; at++) text[at] = some[any(of)];
    for (size_t at = 0; at < len; at++) is_hex &= text[at] != '\0' && strchr("0123456789abcdefABCDEF", text[at]) != NULL;
    uint64_t id;
    ck_quick(parse_id(span_of(text, len), &id) == is_hex);
  }
}
END_TEST

static char why_text[256];
static enum target_kind kind_of(const char *text, struct target_of *target) {
  json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
  ck_assert_ptr_nonnull(json);
  struct fmt why = fmt_over(why_text, sizeof why_text - 1);
  bool is_one = read_target(json, target, &why);
  why_text[why.len] = '\0';
  ck_assert(is_one == (target->kind != TARGET_INVALID));
  ck_assert(is_one == (why.len == 0)); /* it is said what is wrong */
  json_decref(json);
  return target->kind;
}

START_TEST(a_target_is_exactly_one) {
  static const char *const keys[] = {"\"domain\":\"D.Example\"", "\"site\":\"MX.Example\"", "\"message\":\"0000000000abcdef\"", "\"all\":true"};
  static const enum target_kind kinds[] = {TARGET_DOMAIN, TARGET_SITE, TARGET_MESSAGE, TARGET_ALL};
  struct target_of target;
  for (unsigned set = 0; set < 16; set++) {
    char text[256] = "{\"reason\":\"x\"";
    enum target_kind wanted = TARGET_INVALID;
    for (unsigned i = 0; i < 4; i++) {
      if ((set >> i & 1) == 0) continue;
      strcat(strcat(text, ","), keys[i]);
      if (set == 1u << i) wanted = kinds[i];
    }
    strcat(text, "}");
    ck_assert_int_eq(kind_of(text, &target), wanted);
    if (wanted == TARGET_DOMAIN) ck_assert_str_eq(target.name, "d.example");
    if (wanted == TARGET_SITE) ck_assert_str_eq(target.name, "mx.example");
    if (wanted == TARGET_MESSAGE) ck_assert_uint_eq(target.id, 0xabcdef);
  }
  static const char *const wrong[] = {"{\"domain\":5}",
                                      "{\"domain\":\"\"}",
                                      "{\"domain\":\"*.example.org\"}",
                                      "{\"domain\":\"a@example.org\"}",
                                      "{\"domain\":\"a\\nb.example\"}",
                                      "{\"domain\":\"a..example\"}",
                                      "{\"domain\":\".\"}",
                                      "{\"site\":\"mx example\"}",
                                      "{\"domain\":null}",
                                      "{\"site\":[]}",
                                      "{\"message\":1}",
                                      "{\"all\":1}",
                                      "{\"all\":false}",
                                      "{\"all\":null}",
                                      "[]",
                                      "5",
                                      "null",
                                      "\"all\"",
                                      "{\"message\":\"\"}"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) ck_assert_int_eq(kind_of(wrong[i], &target), TARGET_INVALID);
}
END_TEST

START_TEST(a_name_has_its_limit) {
  static const struct {
    const char *key;
    size_t most;
  } names[] = {{"domain", 253}, {"site", MX_SITE_NAME_MAX}};
  for (unsigned i = 0; i < 2; i++) {
    for (unsigned beyond = 0; beyond < 2; beyond++) {
      char text[500], name[400] = "";
      struct target_of target;
      memset(name, 'X', names[i].most + beyond);
      for (size_t dot = 50; dot + 10 < names[i].most; dot += 50) name[dot] = '.';
      snprintf(text, sizeof text, "{\"%s\":\"%s\"}", names[i].key, name);
      ck_assert((kind_of(text, &target) == TARGET_INVALID) == (beyond == 1));
      if (beyond == 0) ck_assert_uint_eq(strlen(target.name), names[i].most);
    }
  }
}
END_TEST

/* Any bytes become text of the same length in bytes; sound UTF-8 stays as it is, and only what is broken is lost. */
START_TEST(any_bytes_are_json) {
  static const char *const pieces[] = {"a",    "\xc3\xbc", "\xe7\xad\x89", "\xf0\x9f\x98\x80", "\x1b",
                                       "\xff", "\xc3",     "\xe7\xad",     "\xed\xa0\x80",     "\xc0\xaf"};
  chance = 3;
  for (unsigned i = 0; i < 20000; i++) {
    char text[64] = "", wanted[64] = "";
    for (unsigned count = any(10); count > 0; count--) {
      unsigned piece = any(10);
      strcat(text, pieces[piece]);
      for (const char *c = pieces[piece]; piece >= 5 && *c != '\0'; c++) strcat(wanted, "?");
      if (piece < 5) strcat(wanted, pieces[piece]);
      if (piece >= 5) strcat(text, "-"); /* so that no two make a sound one */
      if (piece >= 5) strcat(wanted, "-");
    }
    json_t *json = json_text(text);
    ck_quick_msg(json != NULL && strcmp(json_string_value(json), wanted) == 0, "%s", json_string_value(json));
    json_decref(json);
  }
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_set_timeout(all, 60);
  tcase_add_test(all, an_id_comes_back_as_it_was);
  tcase_add_test(all, nothing_else_is_an_id);
  tcase_add_test(all, a_target_is_exactly_one);
  tcase_add_test(all, a_name_has_its_limit);
  tcase_add_test(all, any_bytes_are_json);
  return unit_main("net/control/control", &all, 1);
}
