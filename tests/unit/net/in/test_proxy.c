#include "net/in/proxy.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static const char *client_of(const struct proxy_header *header) {
  static char room[64];
  struct fmt out = fmt_over(room, sizeof room - 1);
  netaddr_format_with_port(&header->client, &out);
  room[out.len] = '\0';
  return room;
}

/* Every beginning of it is worth waiting for, and what stands behind it is not looked at. */
static void check_whole(struct span text, const char *client) {
  struct proxy_header header = {.len = 0};
  uint8_t longer[PROXY_HEADER_MAX + 100];
  for (size_t len = 0; len < text.len; len++) ck_assert_msg(proxy_parse(span_first(text, len), &header) == PROXY_MORE, "after %zu bytes", len);
  memset(longer, '\n', sizeof longer);
  memcpy(longer, text.at, text.len);
  for (size_t more = 0; more < 100; more++) {
    ck_assert_int_eq(proxy_parse(span_of(longer, text.len + more), &header), PROXY_WHOLE);
    ck_assert_uint_eq(header.len, text.len);
    ck_assert_str_eq(client == NULL ? "" : client, header.client.family == 0 ? "" : client_of(&header));
  }
}

START_TEST(lines) {
  check_whole(SPAN("PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n"), "192.0.2.7:56324");
  check_whole(SPAN("PROXY TCP6 2001:db8::7 2001:db8::1 65535 0\r\n"), "[2001:db8::7]:65535");
  check_whole(SPAN("PROXY UNKNOWN\r\n"), NULL);
  check_whole(SPAN("PROXY UNKNOWN ffff:f::f whatever 1 2\r\n"), NULL);
}
END_TEST

START_TEST(wrong_lines) {
  static const char *const wrong[] = {
      "EHLO a\r\n",
      "PROXX",
      "proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
      "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
      "PROXY  TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
      "PROXY TCP4 2001:db8::7 198.51.100.1 1 2\r\n",
      "PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
      "PROXY TCP4 192.0.2.7 2001:db8::1 1 2\r\n",
      "PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
      "PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n",
      "PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
      "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
      "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
      "PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n",
      "PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n",
      "PROXY \r\n",
      "\r\n\r\nQUIT",
      "\r\n\r\n\r\n",
  };
  struct proxy_header header;
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    ck_assert_msg(proxy_parse(span_of_text(wrong[i]), &header) == PROXY_INVALID, "%s", wrong[i]);
  uint8_t endless[200];
  memset(endless, 'x', sizeof endless);
  memcpy(endless, "PROXY UNKNOWN ", 14);
  ck_assert_int_eq(proxy_parse(span_of(endless, 106), &header), PROXY_MORE);
  ck_assert_int_eq(proxy_parse(span_of(endless, 107), &header), PROXY_INVALID);
}
END_TEST

static struct span binary(uint8_t command, uint8_t transport, size_t len) {
  static uint8_t room[PROXY_HEADER_MAX + 1];
  memset(room, 0, sizeof room);
  memcpy(room, signature, sizeof signature);
  room[12] = command;
  room[13] = transport;
  room[14] = (uint8_t)(len >> 8);
  room[15] = (uint8_t)len;
  static const uint8_t addresses[36] = {192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0, 25, [32] = 0x12, 0x34, 0, 25};
  memcpy(room + 16, addresses, len < sizeof addresses ? len : sizeof addresses);
  return span_of(room, 16 + len);
}

START_TEST(binaries) {
  check_whole(binary(0x21, 0x11, 12), "192.0.2.7:56324");
  check_whole(binary(0x21, 0x11, 100), "192.0.2.7:56324"); /* with extensions */
  check_whole(binary(0x21, 0x21, 36), "[c000:207:c633:6401:dc04:19::]:4660");
  check_whole(binary(0x20, 0x00, 0), NULL);
  check_whole(binary(0x20, 0x11, 12), NULL); /* LOCAL: whatever it says */
  check_whole(binary(0x21, 0x00, 0), NULL);
  check_whole(binary(0x21, 0x31, 216), NULL); /* AF_UNIX */
  check_whole(binary(0x21, 0x12, 12), NULL);  /* a datagram */
  check_whole(binary(0x21, 0x11, PROXY_HEADER_MAX - 16), "192.0.2.7:56324");
}
END_TEST

START_TEST(wrong_binaries) {
  struct proxy_header header;
  ck_assert_int_eq(proxy_parse(binary(0x11, 0x11, 12), &header), PROXY_INVALID);
  ck_assert_int_eq(proxy_parse(binary(0x22, 0x11, 12), &header), PROXY_INVALID);
  ck_assert_int_eq(proxy_parse(binary(0x21, 0x11, 11), &header), PROXY_INVALID);
  ck_assert_int_eq(proxy_parse(binary(0x21, 0x21, 35), &header), PROXY_INVALID);
  ck_assert_int_eq(proxy_parse(binary(0x21, 0x11, PROXY_HEADER_MAX - 15), &header), PROXY_INVALID);
  ck_assert_int_eq(proxy_parse(span_first(binary(0x21, 0x11, PROXY_HEADER_MAX - 15), 16), &header), PROXY_INVALID); /* at once */
  uint8_t other[12];
  for (size_t i = 0; i < sizeof other; i++) {
    memcpy(other, signature, sizeof other);
    other[i] ^= 0x40;
    ck_assert_int_eq(proxy_parse(span_of(other, sizeof other), &header), PROXY_INVALID);
  }
}
END_TEST

int main(void) {
  TCase *tc = tcase_create("proxy");
  tcase_add_test(tc, lines);
  tcase_add_test(tc, wrong_lines);
  tcase_add_test(tc, binaries);
  tcase_add_test(tc, wrong_binaries);
  return unit_main("net/in/proxy", &tc, 1);
}
