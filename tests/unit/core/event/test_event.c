#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/event/event.h"
#include "tests/lib/json.h"

static uint8_t room[EVENT_SIZE_MAX + 1];

static struct span format(const struct event *event) {
  struct fmt out = fmt_over(room, EVENT_SIZE_MAX);
  event_format(event, &out);
  ck_assert(!out.overflow);
  ck_assert(json_is_object(span_of(room, out.len - 1)));
  return fmt_span(&out);
}

static void expect(const struct event *event, const char *line) {
  struct span got = format(event);
  room[got.len] = '\0';
  ck_assert_str_eq((const char *)room, line);
}

START_TEST(delivery_has_its_fields_in_their_order) {
  struct event event = {.type = EVENT_DELIVERY,
                        .id = 0x18f3a2b4c5d6e7f,
                        .session_id = 0xab,
                        .sender = SPAN("a@example.net"),
                        .recipient = SPAN("b@example.org"),
                        .queue = SPAN("example.org"),
                        .site = SPAN("mx1.example.org,mx2.example.org"),
                        .provider = SPAN("big"),
                        .size = 4312,
                        .timestamp_ms = 1764000000123,
                        .created_ms = 1763999999007,
                        .num_attempts = 12,
                        .code = 250,
                        .enhanced = {2, 1, 605},
                        .content = SPAN("Ok"),
                        .command = SPAN("end of DATA"),
                        .peer_name = SPAN("mx1.example.org"),
                        .peer = {.family = 4, .bytes = {192, 0, 2, 17}},
                        .source = {.family = 4, .bytes = {198, 51, 100, 255}}};
  expect(&event,
         "{\"type\":\"Delivery\",\"id\":\"018f3a2b4c5d6e7f\",\"sender\":\"a@example.net\",\"recipient\":\"b@example.org\",\"queue\":\"example.org\","
         "\"site\":\"mx1.example.org,mx2.example.org\",\"provider\":\"big\",\"size\":4312,"
         "\"response\":{\"code\":250,\"enhanced_code\":{\"class\":2,\"subject\":1,\"detail\":605},\"content\":\"Ok\",\"command\":\"end of DATA\"},"
         "\"peer_address\":{\"name\":\"mx1.example.org\",\"addr\":\"192.0.2.17\"},\"timestamp\":1764000000.123,\"created\":1763999999.007,"
         "\"num_attempts\":12,\"source_address\":\"198.51.100.255\",\"session_id\":\"00000000000000ab\",\"meta\":{}}\n");
}
END_TEST

START_TEST(bounce_says_why) {
  struct event event = {.type = EVENT_BOUNCE,
                        .id = 1,
                        .recipient = SPAN("b@example.org"),
                        .timestamp_ms = 7,
                        .code = 550,
                        .content = SPAN("no"),
                        .maybe_duplicate = true,
                        .verdict = "hard",
                        .category = "invalid-recipient",
                        .rule = "enhanced-5.1.1"};
  expect(&event, "{\"type\":\"Bounce\",\"id\":\"0000000000000001\",\"sender\":\"\",\"recipient\":\"b@example.org\",\"size\":0,"
                 "\"response\":{\"code\":550,\"content\":\"no\",\"command\":\"\"},\"timestamp\":0.007,\"num_attempts\":0,\"maybe_duplicate\":true,"
                 "\"verdict\":\"hard\",\"category\":\"invalid-recipient\",\"rule\":\"enhanced-5.1.1\",\"meta\":{}}\n");
}
END_TEST

START_TEST(what_had_to_be_proved_is_told) {
  struct event event = {
      .type = EVENT_DELIVERY, .id = 1, .tls_version = "TLSv1.3", .tls_policy = "sts", .tls_result = "certificate-expired", .rule = "tls"};
  expect(&event,
         "{\"type\":\"Delivery\",\"id\":\"0000000000000001\",\"sender\":\"\",\"size\":0,\"timestamp\":0.000,\"num_attempts\":0,"
         "\"tls_protocol_version\":\"TLSv1.3\",\"tls_policy\":\"sts\",\"tls_result\":\"certificate-expired\",\"rule\":\"tls\",\"meta\":{}}\n");
}
END_TEST

START_TEST(what_has_no_value_is_left_out) {
  struct event event = {.type = EVENT_REJECTION};
  expect(&event, "{\"type\":\"Rejection\",\"sender\":\"\",\"size\":0,\"timestamp\":0.000,\"num_attempts\":0,\"meta\":{}}\n");
  event.peer_name = SPAN("mx");
  expect(
      &event,
      "{\"type\":\"Rejection\",\"sender\":\"\",\"size\":0,\"peer_address\":{\"name\":\"mx\"},\"timestamp\":0.000,\"num_attempts\":0,\"meta\":{}}\n");
}
END_TEST

START_TEST(reception_lists_all_recipients) {
  struct span more[] = {SPAN("c@example.org"), SPAN("\"d\"@example.org")};
  struct event event = {.type = EVENT_RECEPTION, .recipient = SPAN("b@example.org"), .more_recipients = more, .more_recipients_count = 2};
  expect(&event, "{\"type\":\"Reception\",\"sender\":\"\",\"recipient\":[\"b@example.org\",\"c@example.org\",\"\\\"d\\\"@example.org\"],\"size\":0,"
                 "\"timestamp\":0.000,\"num_attempts\":0,\"meta\":{}}\n");
}
END_TEST

START_TEST(each_type_has_its_name) {
  const char *names[] = {"", "Reception", "Delivery", "TransientFailure", "Bounce", "Expiration", "Rejection", "AdminBounce"};
  for (int type = EVENT_INVALID; type <= EVENT_ADMIN_BOUNCE; type++) {
    ck_assert_str_eq(event_type_text((enum event_type)type), names[type]);
    if (type == EVENT_INVALID) continue;
    char line[128];
    snprintf(line, sizeof line, "{\"type\":\"%s\",\"sender\":\"\",\"size\":0,\"timestamp\":0.000,\"num_attempts\":0,\"meta\":{}}\n", names[type]);
    expect(&(struct event){.type = (enum event_type)type}, line);
  }
  ck_assert_str_eq(event_type_text((enum event_type)99), "");
}
END_TEST

/* The bytes between the quotes of "sender". */
static void expect_string(struct span bytes, const char *escaped) {
  struct span line = format(&(struct event){.type = EVENT_DELIVERY, .sender = bytes});
  size_t before = strlen("{\"type\":\"Delivery\",\"sender\":\""),
         after = strlen("\",\"size\":0,\"timestamp\":0.000,\"num_attempts\":0,\"meta\":{}}\n");
  ck_assert_uint_eq(line.len - before - after, strlen(escaped));
  ck_assert_mem_eq(line.at + before, escaped, strlen(escaped));
}

START_TEST(what_json_cannot_hold_is_escaped) {
  expect_string(SPAN("a\"b\\c\r\n\t\x01\x1f\x7f/"), "a\\\"b\\\\c\\r\\n\\t\\u0001\\u001f\x7f/");
  expect_string(SPAN("\0"), "\\u0000");
}
END_TEST

START_TEST(utf8_passes_and_anything_else_is_replaced) {
#define R "\xef\xbf\xbd"
  const struct {
    struct span bytes;
    const char *escaped;
  } cases[] = {
      {SPAN("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f"},
      {SPAN("\xe2\x82\xac \xf0\x9f\x93\xae"), "\xe2\x82\xac \xf0\x9f\x93\xae"},
      {SPAN("\xf4\x8f\xbf\xbf\xed\x9f\xbf\xe0\xa0\x80\xf0\x90\x80\x80"), "\xf4\x8f\xbf\xbf\xed\x9f\xbf\xe0\xa0\x80\xf0\x90\x80\x80"},
      {SPAN("\xc0\xaf"), R R},             /* overlong */
      {SPAN("\xe0\x9f\xbf"), R R R},       /* overlong */
      {SPAN("\xf0\x8f\xbf\xbf"), R R R R}, /* overlong */
      {SPAN("\xed\xa0\x80"), R R R},       /* surrogate */
      {SPAN("\xf4\x90\x80\x80"), R R R R}, /* above U+10FFFF */
      {SPAN("\xf5\x80\x80\x80"), R R R R},
      {SPAN("\x80"), R},
      {SPAN("\xe2\x82"), R R},            /* ends too early */
      {SPAN("\xe2\x82\"x"), R R "\\\"x"}, /* ... before a quote, which must not be swallowed */
      {SPAN("latin \xfc\xe4 1"), "latin " R R " 1"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) expect_string(cases[i].bytes, cases[i].escaped);
}
END_TEST

/* The fast path looks at words: each byte value, at each place of strings of each length around the word size. */
START_TEST(every_byte_is_seen_at_every_place) {
  for (size_t len = 1; len <= 26; len++) {
    for (size_t place = 0; place < len; place++) {
      for (unsigned value = 0; value < 256; value++) {
        uint8_t *bytes = malloc(len); /* as long as it is, for ASan */
        memset(bytes, 'x', len);
        bytes[place] = (uint8_t)value;
        struct span line = format(&(struct event){.type = EVENT_DELIVERY, .sender = span_of(bytes, len)});
        size_t before = strlen("{\"type\":\"Delivery\",\"sender\":\"");
        bool plain = value >= 0x20 && value < 0x80 && value != '"' && value != '\\';
        bool copied = memcmp(line.at + before, bytes, len) == 0 && memcmp(line.at + before + len, "\",\"size", 7) == 0;
        ck_assert(copied == plain);
        free(bytes);
      }
    }
  }
}
END_TEST

START_TEST(an_event_of_one_recipient_always_fits) {
  static uint8_t ugly[100000];
  static char text[10000];
  memset(text, 1, sizeof text - 1);
  struct span s = span_of(ugly, sizeof ugly);
  struct event event = {.type = EVENT_TRANSIENT_FAILURE,
                        .id = UINT64_MAX,
                        .session_id = UINT64_MAX,
                        .sender = s,
                        .recipient = s,
                        .queue = s,
                        .site = s,
                        .provider = s,
                        .size = UINT64_MAX,
                        .timestamp_ms = UINT64_MAX,
                        .created_ms = UINT64_MAX,
                        .num_attempts = UINT32_MAX,
                        .code = UINT16_MAX,
                        .enhanced = {UINT16_MAX, UINT16_MAX, UINT16_MAX},
                        .content = s,
                        .command = s,
                        .peer_name = s,
                        .verdict = text,
                        .category = text,
                        .rule = text,
                        .peer = {.family = 6, .bytes = {255, 255, 255, 255}},
                        .source = {.family = 6},
                        .maybe_duplicate = true};
  ck_assert_uint_gt(format(&event).len, (10 * EVENT_STRING_MAX + EVENT_CONTENT_MAX) * 6);
}
END_TEST

START_TEST(a_long_string_is_cut_between_characters) {
  uint8_t bytes[EVENT_STRING_MAX + 8];
  for (size_t shift = 0; shift < 4; shift++) {
    memset(bytes, 'x', sizeof bytes);
    memcpy(bytes + EVENT_STRING_MAX - shift, "\xf0\x9f\x93\xae", 4);
    struct span line = format(&(struct event){.type = EVENT_DELIVERY, .sender = span_of(bytes, sizeof bytes)});
    size_t before = strlen("{\"type\":\"Delivery\",\"sender\":\"");
    ck_assert_mem_eq(line.at + before, bytes, EVENT_STRING_MAX - shift);
    ck_assert_mem_eq(line.at + before + EVENT_STRING_MAX - shift, "\",\"size\"", 8);
  }
}
END_TEST

START_TEST(without_room_nothing_is_written) {
  struct span more[] = {SPAN("c@example.org")};
  struct event event = {.type = EVENT_BOUNCE,
                        .id = 3,
                        .sender = SPAN("a\"@example.net"),
                        .recipient = SPAN("b@example.org"),
                        .more_recipients = more,
                        .more_recipients_count = 1,
                        .code = 550,
                        .enhanced = {5, 1, 1},
                        .content = SPAN("no such user here"),
                        .created_ms = 5,
                        .peer = {.family = 4},
                        .verdict = "hard"};
  size_t len = format(&event).len;
  for (size_t cap = 0; cap <= len + 2; cap++) {
    uint8_t *exact = malloc(cap + 2);
    struct fmt out = fmt_over(exact, cap + 2);
    fmt_text(&out, "ab");
    event_format(&event, &out);
    ck_assert(out.overflow == (cap < len));
    ck_assert_uint_eq(out.len, cap < len ? 2 : 2 + len);
    event_format(&event, &out); /* sticky */
    if (cap < len) ck_assert_uint_eq(out.len, 2);
    free(exact);
  }
}
END_TEST

START_TEST(a_rejection_by_a_dns_list) {
  struct event event = {.type = EVENT_REJECTION,
                        .sender = SPAN("a@example.net"),
                        .dns_list = SPAN("zen.example.org"),
                        .dns_list_answer = {.family = 4, .bytes = {127, 0, 0, 4}}};
  expect(&event, "{\"type\":\"Rejection\",\"sender\":\"a@example.net\",\"size\":0,\"timestamp\":0.000,\"num_attempts\":0,"
                 "\"dns_list\":{\"name\":\"zen.example.org\",\"answer\":\"127.0.0.4\"},\"meta\":{}}\n");
}
END_TEST

int main(void) {
  TCase *fields = tcase_create("fields"), *strings = tcase_create("strings"), *bounds = tcase_create("bounds");
  tcase_add_test(fields, delivery_has_its_fields_in_their_order);
  tcase_add_test(fields, a_rejection_by_a_dns_list);
  tcase_add_test(fields, bounce_says_why);
  tcase_add_test(fields, what_had_to_be_proved_is_told);
  tcase_add_test(fields, what_has_no_value_is_left_out);
  tcase_add_test(fields, reception_lists_all_recipients);
  tcase_add_test(fields, each_type_has_its_name);
  tcase_add_test(strings, what_json_cannot_hold_is_escaped);
  tcase_add_test(strings, utf8_passes_and_anything_else_is_replaced);
  tcase_add_test(strings, every_byte_is_seen_at_every_place);
  tcase_add_test(bounds, an_event_of_one_recipient_always_fits);
  tcase_add_test(bounds, a_long_string_is_cut_between_characters);
  tcase_add_test(bounds, without_room_nothing_is_written);
  return unit_main("core/event", (TCase *[]){fields, strings, bounds}, 3);
}
