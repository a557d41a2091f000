/* The first message of a client, as it may come: whole, cut, damaged, or something else altogether. */
#include "net/tls/hello.h"

#include <stdlib.h>

#include "core/base/error.h"
#include "tests/lib/unit.h"

/* ---- hellos to order ---- */

struct order {
  const char *host;                                     /* NULL: no server_name */
  unsigned version;                                     /* 0: 0x0303 */
  const uint16_t *versions, *schemes, *groups, *suites; /* ending in 0; NULL: the extension is not there */
};

struct made {
  uint8_t at[4096];
  size_t len;
};

static void put8(struct made *m, unsigned v) { m->at[m->len++] = (uint8_t)v; }
static void put16(struct made *m, unsigned v) { put8(m, v >> 8), put8(m, v & 0xff); }

static void put_list(struct made *m, unsigned type, const uint16_t *list, bool short_length) {
  unsigned count = 0;
  if (list == NULL) return;
  while (list[count] != 0) count++;
  put16(m, type);
  put16(m, 2 * count + (short_length ? 1 : 2));
  if (short_length)
    put8(m, 2 * count);
  else
    put16(m, 2 * count);
  for (unsigned i = 0; i < count; i++) put16(m, list[i]);
}

static const uint16_t all_suites[] = {0x1301, 0xc02b, 0xc02f, 0};

/* The message with its header, without records. */
static struct made message(const struct order *order) {
  struct made m = {.len = 0}, ext = {.len = 0};
  const uint16_t *suites = order->suites == NULL ? all_suites : order->suites;
  unsigned count = 0;
  while (suites[count] != 0) count++;
  if (order->host != NULL) {
    size_t len = strlen(order->host);
    put16(&ext, 0), put16(&ext, (unsigned)len + 5), put16(&ext, (unsigned)len + 3), put8(&ext, 0), put16(&ext, (unsigned)len);
    memcpy(ext.at + ext.len, order->host, len);
    ext.len += len;
  }
  put_list(&ext, 43, order->versions, true);
  put_list(&ext, 13, order->schemes, false);
  put_list(&ext, 10, order->groups, false);
  put16(&ext, 0xff01), put16(&ext, 1), put8(&ext, 0);
  m.len = 4;
  put16(&m, order->version == 0 ? 0x0303 : order->version);
  for (unsigned i = 0; i < 32; i++) put8(&m, i);
  put8(&m, 3), put8(&m, 1), put8(&m, 2), put8(&m, 3); /* session id */
  put16(&m, 2 * count);
  for (unsigned i = 0; i < count; i++) put16(&m, suites[i]);
  put8(&m, 1), put8(&m, 0);
  put16(&m, (unsigned)ext.len);
  memcpy(m.at + m.len, ext.at, ext.len);
  m.len += ext.len;
  m.at[0] = 1, m.at[1] = 0, m.at[2] = (uint8_t)((m.len - 4) >> 8), m.at[3] = (uint8_t)(m.len - 4);
  return m;
}

/* In records of at most `cut` bytes. */
static struct made records(const struct made *m, size_t cut) {
  struct made r = {.len = 0};
  for (size_t at = 0; at < m->len; at += cut) {
    size_t n = m->len - at < cut ? m->len - at : cut;
    put8(&r, 22), put16(&r, 0x0301), put16(&r, (unsigned)n);
    memcpy(r.at + r.len, m->at + at, n);
    r.len += n;
  }
  return r;
}

static enum hello_progress read_all(const struct made *r) { return hello_read(&(struct hello_reader){0}, span_of(r->at, r->len)); }

static int parse(const struct order *order, size_t cut, struct hello *hello) {
  static struct made r;
  static uint8_t room[HELLO_MAX];
  struct made m = message(order);
  r = records(&m, cut);
  ck_assert_int_eq(read_all(&r), HELLO_COMPLETE);
  return hello_parse(span_of(r.at, r.len), room, hello);
}

static const uint16_t modern[] = {0x0304, 0x0303, 0}, schemes_all[] = {0x0403, 0x0503, 0x0804, 0x0401, 0}, groups_all[] = {29, 23, 24, 0};
static const struct order usual = {.host = "Mail.Example.org", .versions = modern, .schemes = schemes_all, .groups = groups_all};

/* ---- ---- */

START_TEST(a_hello_says_what_it_takes) {
  struct hello hello;
  ck_assert_int_eq(parse(&usual, 4096, &hello), E_OK);
  ck_assert(span_equal(hello.host, SPAN("Mail.Example.org")));
  ck_assert(hello.tls12 && hello.tls13 && hello.suites_ecdsa && hello.suites_rsa && hello.p256 && hello.p384 && hello.rsa_pkcs1 && hello.rsa_pss);
  for (unsigned tls13 = 0; tls13 < 2; tls13++)
    for (enum hello_key key = HELLO_KEY_RSA; key <= HELLO_KEY_P384; key++) ck_assert(hello_takes(&hello, key, tls13));
}
END_TEST

START_TEST(what_is_not_offered_is_not_taken) {
  struct hello hello;
  static const uint16_t rsa_only[] = {0x0804, 0x0401, 0}, pkcs1[] = {0x0401, 0}, ecdsa[] = {0x0403, 0}, old[] = {0x0303, 0x0302, 0},
                        rsa_suites[] = {0xc02f, 0}, p384[] = {24, 0};
  ck_assert_int_eq(parse(&(struct order){.versions = modern, .schemes = rsa_only, .groups = groups_all}, 4096, &hello), E_OK);
  ck_assert(hello_takes(&hello, HELLO_KEY_RSA, true) && !hello_takes(&hello, HELLO_KEY_P256, true) && !hello_takes(&hello, HELLO_KEY_P384, true));
  ck_assert_int_eq(parse(&(struct order){.versions = modern, .schemes = pkcs1, .groups = groups_all}, 4096, &hello), E_OK);
  ck_assert(!hello_takes(&hello, HELLO_KEY_RSA, true) && hello_takes(&hello, HELLO_KEY_RSA, false)); /* TLS 1.3 signs with PSS alone */
  ck_assert_int_eq(parse(&(struct order){.versions = modern, .schemes = ecdsa, .groups = groups_all}, 4096, &hello), E_OK);
  ck_assert(hello_takes(&hello, HELLO_KEY_P256, true) && !hello_takes(&hello, HELLO_KEY_P384, true) && !hello_takes(&hello, HELLO_KEY_RSA, true));
  ck_assert_int_eq(parse(&(struct order){.versions = modern, .schemes = schemes_all, .groups = p384}, 4096, &hello), E_OK);
  ck_assert(!hello_takes(&hello, HELLO_KEY_P256, false) && hello_takes(&hello, HELLO_KEY_P384, false));
  ck_assert(hello_takes(&hello, HELLO_KEY_P256, true) &&
            hello_takes(&hello, HELLO_KEY_P384, true)); /* in TLS 1.3 groups are for key exchange alone */
  ck_assert_int_eq(parse(&(struct order){.versions = old, .schemes = schemes_all, .groups = groups_all, .suites = rsa_suites}, 4096, &hello), E_OK);
  ck_assert(hello.tls12 && !hello.tls13);
  ck_assert(hello_takes(&hello, HELLO_KEY_RSA, true) && !hello_takes(&hello, HELLO_KEY_P256, true)); /* no suite for it */
}
END_TEST

START_TEST(versions_are_those_of_the_list_or_else_the_one_in_front) {
  struct hello hello;
  static const uint16_t only13[] = {0x0304, 0}, strange[] = {0x0a0a, 0x7f1c, 0};
  ck_assert_int_eq(parse(&(struct order){.versions = only13, .schemes = schemes_all}, 4096, &hello), E_OK);
  ck_assert(hello.tls13 && !hello.tls12);
  ck_assert_int_eq(parse(&(struct order){.versions = strange}, 4096, &hello), E_OK);
  ck_assert(!hello.tls13 && !hello.tls12);
  ck_assert_int_eq(parse(&(struct order){.schemes = schemes_all}, 4096, &hello), E_OK);
  ck_assert(!hello.tls13 && hello.tls12);
  for (unsigned version = 0x0300; version < 0x0303; version++) {
    ck_assert_int_eq(parse(&(struct order){.version = version}, 4096, &hello), E_OK);
    ck_assert(!hello.tls13 && !hello.tls12);
  }
  ck_assert_int_eq(parse(&(struct order){.version = 0x0203}, 4096, &hello), E_SYNTAX);
}
END_TEST

START_TEST(a_host_that_could_be_none_is_none) {
  struct hello hello;
  static const char *const bad[] = {"", ".a", "a..b", "a b", "m\xc3\xa4il.example", "a/b", "a\nb", "*.example"};
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    ck_assert_int_eq(parse(&(struct order){.host = bad[i]}, 4096, &hello), E_OK);
    ck_assert_msg(hello.host.len == 0, "%s", bad[i]);
  }
  ck_assert_int_eq(parse(&(struct order){.host = "a_b-1.example."}, 4096, &hello), E_OK);
  ck_assert(span_equal(hello.host, SPAN("a_b-1.example.")));
}
END_TEST

START_TEST(records_may_cut_it_anywhere_and_bytes_may_come_one_by_one) {
  struct made m = message(&usual);
  uint8_t room[HELLO_MAX];
  struct hello whole, hello;
  ck_assert_int_eq(parse(&usual, 4096, &whole), E_OK);
  for (size_t cut = (m.len + HELLO_RECORDS - 1) / HELLO_RECORDS; cut <= m.len; cut++) {
    struct made r = records(&m, cut);
    struct hello_reader reader = {0};
    for (size_t len = 0; len < r.len; len++) ck_quick(hello_read(&reader, span_of(r.at, len)) == HELLO_MORE);
    ck_quick(hello_read(&reader, span_of(r.at, r.len)) == HELLO_COMPLETE);
    ck_quick(hello_parse(span_of(r.at, r.len), room, &hello) == E_OK);
    ck_quick(span_equal(hello.host, SPAN("Mail.Example.org")) && hello.p256 == whole.p256 && hello.tls13 && hello.rsa_pss);
  }
  struct made tiny = records(&m, 1);
  ck_assert_int_eq(read_all(&tiny), HELLO_BROKEN); /* more records than anybody needs */
}
END_TEST

START_TEST(a_message_cut_short_is_refused_by_its_grammar) {
  struct made m = message(&usual);
  uint8_t room[HELLO_MAX];
  unsigned fine = 0;
  for (size_t len = 5; len < m.len; len++) { /* with a length that says so */
    struct made cut = m, r;
    struct hello hello;
    cut.len = len;
    cut.at[2] = (uint8_t)((len - 4) >> 8), cut.at[3] = (uint8_t)(len - 4);
    r = records(&cut, 4096);
    ck_quick(read_all(&r) == HELLO_COMPLETE);
    fine += hello_parse(span_of(r.at, r.len), room, &hello) == E_OK;
  }
  ck_assert_uint_eq(fine, 1); /* where the extensions would begin: TLS 1.2 knows hellos without */
}
END_TEST

START_TEST(an_extension_that_comes_twice_is_refused) {
  struct made m = message(&usual);
  uint8_t room[HELLO_MAX];
  struct hello hello;
  size_t before = m.len;
  put16(&m, 13), put16(&m, 4), put16(&m, 2), put16(&m, 0x0403);
  unsigned more = (unsigned)(m.len - before);
  size_t at = 4 + 2 + 32 + 4 + 2 + 6 + 2; /* of the length of the extensions */
  unsigned len = (unsigned)m.at[at] << 8 | m.at[at + 1];
  m.at[at] = (uint8_t)((len + more) >> 8), m.at[at + 1] = (uint8_t)(len + more);
  m.at[2] = (uint8_t)((m.len - 4) >> 8), m.at[3] = (uint8_t)(m.len - 4);
  struct made r = records(&m, 4096);
  ck_assert_int_eq(read_all(&r), HELLO_COMPLETE);
  ck_assert_int_eq(hello_parse(span_of(r.at, r.len), room, &hello), E_SYNTAX);
}
END_TEST

static const struct {
  const char *bytes;
  size_t len;
  enum hello_progress expected;
} beginnings[] = {
    {"", 0, HELLO_MORE},
    {"\x16", 1, HELLO_MORE},
    {"\x16\x03", 2, HELLO_MORE},
    {"\x16\x03\x01\x00", 4, HELLO_MORE},
    {"\x16\x02", 2, HELLO_BROKEN},
    {"\x16\x03\x01\x00\x00", 5, HELLO_BROKEN},     /* an empty record */
    {"\x16\x03\x01\x40\x01", 5, HELLO_BROKEN},     /* too long for one */
    {"\x16\x03\x01\x00\x01\x02", 6, HELLO_BROKEN}, /* a ServerHello */
    {"\x16\x03\x01\x00\x04\x01\x00\x40\x00", 9, HELLO_TOO_LONG},
    {"\x16\x03\x01\x00\x05\x01\x00\x00\x00\x00", 10, HELLO_BROKEN}, /* more than the message says */
    {"\x15\x03\x01\x00\x02\x02\x28", 7, HELLO_BROKEN},              /* an alert */
    {"\x17\x03\x03\x00\x01x", 6, HELLO_BROKEN},                     /* data */
    {"EHLO", 4, HELLO_NO_TLS},
    {"\x80", 1, HELLO_MORE},
    {"\x80\x2e\x01\x00\x02", 5, HELLO_OLD},
    {"\x80\x2e\x04", 3, HELLO_NO_TLS},
    {"\x00\x00\x00", 3, HELLO_NO_TLS},
};

START_TEST(other_beginnings_are_told_apart) {
  for (unsigned i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
    enum hello_progress progress = hello_read(&(struct hello_reader){0}, span_of(beginnings[i].bytes, beginnings[i].len));
    ck_assert_msg(progress == beginnings[i].expected, "beginning %u: %d", i, (int)progress);
  }
}
END_TEST

int main(void) {
  TCase *hello = tcase_create("hello");
  tcase_add_test(hello, a_hello_says_what_it_takes);
  tcase_add_test(hello, what_is_not_offered_is_not_taken);
  tcase_add_test(hello, versions_are_those_of_the_list_or_else_the_one_in_front);
  tcase_add_test(hello, a_host_that_could_be_none_is_none);
  tcase_add_test(hello, records_may_cut_it_anywhere_and_bytes_may_come_one_by_one);
  tcase_add_test(hello, a_message_cut_short_is_refused_by_its_grammar);
  tcase_add_test(hello, an_extension_that_comes_twice_is_refused);
  tcase_add_test(hello, other_beginnings_are_told_apart);
  return unit_main("net/tls/hello", (TCase *const[]){hello}, 1);
}
