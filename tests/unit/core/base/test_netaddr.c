#include "core/base/netaddr.h"
#include "tests/lib/unit.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"

static const char *formatted(const struct netaddr *address, bool with_port) {
  static char room[64];
  struct fmt out = fmt_over(room, sizeof room - 1);
  if (with_port) {
    netaddr_format_with_port(address, &out);
  } else {
    netaddr_format(address, &out);
  }
  ck_quick(!out.overflow);
  room[out.len] = '\0';
  return room;
}

static struct netaddr address_of(const char *text) {
  struct netaddr address;
  memset(&address, 0xa5, sizeof address);
  ck_quick_msg(netaddr_parse(&address, span_of_text(text)) == E_OK, "refused '%s'", text);
  ck_quick(address.port == 0);
  return address;
}

START_TEST(canonical_text) {
  /* RFC 5952, sections 4 and 5 */
  static const char *const pairs[][2] = {
      {"192.0.2.1", "192.0.2.1"},
      {"0.0.0.0", "0.0.0.0"},
      {"255.255.255.255", "255.255.255.255"},
      {"::", "::"},
      {"::1", "::1"},
      {"1::", "1::"},
      {"2001:DB8::1", "2001:db8::1"},
      {"2001:0db8:0000::0001", "2001:db8::1"},
      {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
      {"2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
      {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
      {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
      {"0:0:0:0:0:0:0:0", "::"},
      {"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"},
      {"::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"},
      {"1:2:3:4:5:6:0:0", "1:2:3:4:5:6::"},
      {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
      {"::FFFF:c000:201", "::ffff:192.0.2.1"},
      {"64:ff9b::192.0.2.33", "64:ff9b::c000:221"},
      {"1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"},
      {"::1.2.3.4", "::102:304"},
      {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
  };
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    struct netaddr address = address_of(pairs[i][0]);
    ck_assert_str_eq(formatted(&address, false), pairs[i][1]);
  }
  struct netaddr none = {0};
  ck_assert_str_eq(formatted(&none, false), "none");
}
END_TEST

START_TEST(what_is_no_address) {
  static const char *const bad[] = {
      "",
      ".",
      "1",
      "1.2.3",
      "1.2.3.4.5",
      "1.2.3.256",
      "1.2.3.04",
      "01.2.3.4",
      "1.2.3.",
      ".1.2.3",
      "1..2.3",
      "1.2.3.4 ",
      " 1.2.3.4",
      "0x1.2.3.4",
      "1.2.3.-4",
      "1.2.3.4:25",
      "1.2.3.1000",
      ":",
      ":::",
      "1:::2",
      "::1::",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4:5:6:7:8::",
      "::1:2:3:4:5:6:7:8",
      ":1:2:3:4:5:6:7:8",
      "1:2:3:4:5:6:7:",
      ":1",
      "1:",
      "12345::",
      "g::",
      "::1%eth0",
      "[::1]",
      "::1.2.3",
      "::1.2.3.4.5",
      "1:2:3:4:5:6:7:1.2.3.4",
      "::1.2.3.4:1",
      "1.2.3.4::",
      "1:2:3:4:5:1.2.3.4",
      "::1/128",
      "localhost",
      "1:2:3:4::5:6:7:8",
      "1:2:3:4:5:6::1.2.3.4",
      "::256.1.1.1",
      "::01.1.1.1",
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct netaddr address = {.family = 9};
    ck_assert_msg(netaddr_parse(&address, span_of_text(bad[i])) == E_SYNTAX, "took '%s'", bad[i]);
    ck_assert_uint_eq(address.family, 9); /* untouched */
  }
  struct netaddr address;
  ck_assert_int_eq(netaddr_parse(&address, span_of("1.2.3.4\0", 8)), E_SYNTAX);
  ck_assert_int_eq(netaddr_parse(&address, (struct span){NULL, 0}), E_SYNTAX);
}
END_TEST

/* Random text over the alphabet of addresses: libc and we agree on what is one, and which. */
START_TEST(any_text_as_libc_reads_it) {
  static const char alphabet[] = "0123456789abcdefF::::....";
  srandom((unsigned)_i);
  for (unsigned i = 0; i < 100000; i++) {
    char text[48];
    unsigned len = (unsigned)random() % 20, groups = (unsigned)random() % 10;
    if (i % 2 == 0) {
      for (unsigned k = 0; k < len; k++) text[k] = alphabet[(size_t)random() % (sizeof alphabet - 1)];
      text[len] = '\0';
    } else { /* near an IPv6 address */
      text[0] = '\0';
      for (unsigned k = 0; k < groups; k++)
        snprintf(text + strlen(text), sizeof text - strlen(text), random() % 5 == 0 ? ":" : "%x:", (unsigned)random() % 300);
      if (random() % 2 == 0) snprintf(text + strlen(text), sizeof text - strlen(text), random() % 3 == 0 ? "1.20.3.4" : "f");
    }
    struct netaddr address;
    uint8_t bytes[16];
    bool six = strchr(text, ':') != NULL;
    bool libc = inet_pton(six ? AF_INET6 : AF_INET, text, bytes) == 1;
    ck_quick_msg((netaddr_parse(&address, span_of_text(text)) == E_OK) == libc, "libc %s '%s'", libc ? "takes" : "refuses", text);
    if (!libc) continue;
    ck_assert_uint_eq(address.family, six ? 6 : 4);
    ck_assert_mem_eq(address.bytes, bytes, six ? 16 : 4);
    struct netaddr again = address_of(formatted(&address, false));
    ck_assert(netaddr_equal(&address, &again));
  }
}
END_TEST

START_TEST(random_addresses_as_libc_writes_them) {
  srandom(5);
  for (unsigned i = 0; i < 50000; i++) {
    struct netaddr address = {.family = 6};
    char expected[INET6_ADDRSTRLEN];
    for (unsigned group = 0; group < 8; group++) {
      unsigned value = random() % 2 == 0 ? 0 : (unsigned)random() >> (random() % 16) & 0xffff;
      address.bytes[2 * group] = (uint8_t)(value >> 8);
      address.bytes[2 * group + 1] = (uint8_t)value;
    }
    ck_quick(inet_ntop(AF_INET6, address.bytes, expected, sizeof expected) != NULL);
    bool compatible = strchr(expected, '.') != NULL && strncmp(expected, "::ffff:", 7) != 0; /* libc writes ::1.2.3.4, deprecated by RFC 4291 */
    ck_quick_msg(compatible || strcmp(formatted(&address, false), expected) == 0, "%s is written %s", expected, formatted(&address, false));
  }
}
END_TEST

START_TEST(with_port) {
  struct netaddr address;
  static const struct {
    const char *text, *canonical;
  } good[] = {
      {"192.0.2.1", "192.0.2.1:25"},
      {"192.0.2.1:2525", "192.0.2.1:2525"},
      {"[2001:db8::1]:465", "[2001:db8::1]:465"},
      {"[::1]", "[::1]:25"},
      {"::1", "[::1]:25"},
      {"192.0.2.1:0", "192.0.2.1:0"},
      {"192.0.2.1:65535", "192.0.2.1:65535"},
      {"2001:db8::2526", "[2001:db8::2526]:25"},
  };
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    ck_assert_msg(netaddr_parse_with_port(&address, span_of_text(good[i].text), 25) == E_OK, "refused '%s'", good[i].text);
    ck_assert_str_eq(formatted(&address, true), good[i].canonical);
  }
  static const struct {
    const char *text;
    int error;
  } bad[] = {
      {"", E_SYNTAX},
      {"192.0.2.1:", E_SYNTAX},
      {"192.0.2.1:x", E_SYNTAX},
      {"192.0.2.1:-1", E_SYNTAX},
      {"192.0.2.1:65536", E_RANGE},
      {"192.0.2.1:100000", E_SYNTAX},
      {"[::1", E_SYNTAX},
      {"[::1]25", E_SYNTAX},
      {"[::1]:", E_SYNTAX},
      {"[192.0.2.1]:25", E_SYNTAX},
      {":25", E_SYNTAX},
      {"[]:25", E_SYNTAX},
      {"mx.example:25", E_SYNTAX},
      {"[::1]:70000", E_RANGE},
      {"[", E_SYNTAX},
      {"192.0.2.1: 25", E_SYNTAX},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    ck_assert_msg(netaddr_parse_with_port(&address, span_of_text(bad[i].text), 25) == bad[i].error, "'%s'", bad[i].text);
}
END_TEST

static bool contains(const char *network_text, const char *address_text) {
  struct network network;
  ck_assert_msg(network_parse(&network, span_of_text(network_text)) == E_OK, "refused '%s'", network_text);
  struct netaddr address = address_of(address_text);
  address.port = 99; /* makes no difference */
  return network_contains(&network, &address);
}

START_TEST(networks) {
  ck_assert(contains("10.0.0.0/8", "10.255.1.2"));
  ck_assert(!contains("10.0.0.0/8", "11.0.0.0"));
  ck_assert(contains("192.0.2.128/25", "192.0.2.255"));
  ck_assert(!contains("192.0.2.128/25", "192.0.2.127"));
  ck_assert(contains("0.0.0.0/0", "255.1.2.3"));
  ck_assert(contains("192.0.2.1", "192.0.2.1"));
  ck_assert(!contains("192.0.2.1", "192.0.2.0"));
  ck_assert(contains("::1", "::1"));
  ck_assert(!contains("::1", "::2"));
  ck_assert(contains("2001:db8::/33", "2001:db8:7fff::1"));
  ck_assert(!contains("2001:db8::/33", "2001:db8:8000::1"));
  ck_assert(contains("::/0", "fe80::1"));
  /* IPv4-mapped addresses are IPv4 */
  ck_assert(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
  ck_assert(contains("::ffff:10.0.0.0/104", "10.1.2.3"));
  ck_assert(!contains("::ffff:10.0.0.0/104", "11.1.2.3"));
  ck_assert(!contains("::/0", "10.1.2.3"));
  ck_assert(!contains("::/0", "::ffff:10.1.2.3"));
  ck_assert(!contains("0.0.0.0/0", "::1"));
  struct network network;
  struct netaddr none = {0};
  ck_assert_int_eq(network_parse(&network, SPAN("0.0.0.0/0")), E_OK);
  ck_assert(!network_contains(&network, &none));
}
END_TEST

START_TEST(what_is_no_network) {
  static const struct {
    const char *text;
    int error;
  } bad[] = {
      {"10.0.0.0/33", E_RANGE},
      {"10.0.0.1/8", E_RANGE},
      {"10.1.0.0/15", E_RANGE},
      {"::/129", E_RANGE},
      {"2001:db8::1/64", E_RANGE},
      {"::ffff:10.0.0.1/104", E_RANGE},
      {"10.0.0.0/", E_SYNTAX},
      {"10.0.0.0/08", E_SYNTAX},
      {"10.0.0.0/-1", E_SYNTAX},
      {"10.0.0.0/8/8", E_SYNTAX},
      {"10.0.0.0/1000", E_SYNTAX},
      {"/8", E_SYNTAX},
      {"10/8", E_SYNTAX},
      {"", E_SYNTAX},
      {"10.0.0.0/255.0.0.0", E_SYNTAX},
      {"10.0.0.0 /8", E_SYNTAX},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct network network;
    ck_assert_msg(network_parse(&network, span_of_text(bad[i].text)) == bad[i].error, "'%s'", bad[i].text);
  }
}
END_TEST

START_TEST(equality) {
  struct netaddr a = address_of("192.0.2.1"), b = address_of("192.0.2.1"), c = address_of("::ffff:192.0.2.1");
  ck_assert(netaddr_equal(&a, &b));
  ck_assert(!netaddr_equal(&a, &c));
  b.port = 1;
  ck_assert(!netaddr_equal(&a, &b));
  b.port = 0;
  b.bytes[3]++;
  ck_assert(!netaddr_equal(&a, &b));
  b = a;
  b.bytes[12] = 1; /* not part of an IPv4 address */
  ck_assert(netaddr_equal(&a, &b));
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, canonical_text);
  tcase_add_test(all, what_is_no_address);
  tcase_add_loop_test(all, any_text_as_libc_reads_it, 0, 3);
  tcase_add_test(all, random_addresses_as_libc_writes_them);
  tcase_add_test(all, with_port);
  tcase_add_test(all, networks);
  tcase_add_test(all, what_is_no_network);
  tcase_add_test(all, equality);
  return unit_main("core/base/netaddr", &all, 1);
}
