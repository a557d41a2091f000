/* DNS lists in the configuration: what is said counts, what cannot be is named, and what clients are told. */
#include "core/conf/dns_lists.h"

#include "tests/unit/core/conf/reading.c"

#define IN(lists) "listeners: [{port: 25, dns_lists: [" lists "]}]\n"

START_TEST(defaults) {
  struct conf conf = conf_of("listeners: [{port: 25, dns_lists: [{zone: Zen.Example.org}]}, {port: 26}]\n");
  const struct dns_lists *lists = conf.listeners[0].dns_lists;
  ck_assert_uint_eq(lists->count, 1);
  ck_assert_int_eq(lists->threshold, 1);
  ck_assert_uint_eq(lists->timeout_ms, 5000);
  ck_assert_str_eq(lists->list[0].zone, "zen.example.org");
  ck_assert_str_eq(lists->list[0].name, "zen.example.org");
  ck_assert_ptr_null(lists->list[0].text);
  ck_assert_int_eq(lists->list[0].weight, 1);
  ck_assert_uint_eq(lists->list[0].answers_count, 1);
  ck_assert_uint_eq(lists->list[0].answers[0].prefix_bits, 8);
  ck_assert_ptr_null(conf.listeners[1].dns_lists);
  conf_free(&conf);
}
END_TEST

START_TEST(what_is_said_counts) {
  struct conf conf =
      conf_of("listeners:\n"
              "  - port: 25\n"
              "    dns_lists_threshold: 4\n"
              "    dns_lists_timeout: 300ms\n"
              "    dns_lists:\n"
              "      - {zone: key.zen.example.org, name: Zen.example.org, answers: [127.0.0.2, 127.0.0.4/30], weight: 3, text: \"50%% of %a\"}\n"
              "      - {zone: bl.example.net, text: ''}\n"
              "      - {zone: good.example.com, weight: -2}\n");
  const struct dns_lists *lists = conf.listeners[0].dns_lists;
  const struct dns_list *zen = &lists->list[0];
  ck_assert_uint_eq(lists->count, 3);
  ck_assert_int_eq(lists->threshold, 4);
  ck_assert_uint_eq(lists->timeout_ms, 300);
  ck_assert_str_eq(zen->zone, "key.zen.example.org");
  ck_assert_str_eq(zen->name, "zen.example.org");
  ck_assert_str_eq(zen->text, "50%% of %a");
  ck_assert_uint_eq(zen->answers_count, 2);
  ck_assert_uint_eq(zen->answers[1].prefix_bits, 30);
  ck_assert_int_eq(zen->weight, 3);
  ck_assert_ptr_null(lists->list[1].text);
  ck_assert_int_eq(lists->list[2].weight, -2);
  conf_free(&conf);
}
END_TEST

static void check_saying(const struct dns_list *list, const char *client, const char *expected) {
  struct netaddr address;
  char room[DNS_LIST_SAYING_MAX + 1];
  struct fmt out = fmt_over(room, sizeof room - 1);
  ck_assert_int_eq(netaddr_parse(&address, span_of_text(client)), E_OK);
  dns_list_say(list, &address, &out);
  room[out.len] = '\0';
  ck_assert_str_eq(room, expected);
}

START_TEST(what_clients_are_told) {
  struct conf conf = conf_of(IN("{zone: key.a.example, name: a.example, text: \"100%% of %a at https://a.example/?ip=%a\"}, {zone: b.example}"));
  const struct dns_list *list = conf.listeners[0].dns_lists->list;
  check_saying(&list[0], "192.0.2.1", "[192.0.2.1] is listed by a.example; 100% of 192.0.2.1 at https://a.example/?ip=192.0.2.1");
  check_saying(&list[1], "2001:db8::1", "[2001:db8::1] is listed by b.example");
  conf_free(&conf);
}
END_TEST

#define TEN "aaaaaaaaa."
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

START_TEST(the_longest) {
  char text[1200];
  struct conf conf = conf_of(IN("{zone: " HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN "abcdefghi}")); /* 189 */
  conf_free(&conf);
  ck_assert_int_eq(parse(&conf, SPAN(IN("{zone: " HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN "abcdefghij}"))), E_RANGE);
  ck_assert_str_eq(why_room, "c.yaml:1: listeners[0].dns_lists[0].zone: is too long: 189 bytes are the most, with an address in front of it");
  /* "[", 39 of an address, "] is listed by ", "a.example", "; ", and the text: 450 */
  for (unsigned more = 0; more < 2; more++) {
    snprintf(text, sizeof text, IN("{zone: a.example, text: \"%%a%.*s\"}"), (int)(450 - 1 - 39 - 15 - 9 - 2 - 39 + more),
             HUNDRED HUNDRED HUNDRED HUNDRED);
    int error = parse(&conf, span_of_text(text));
    ck_assert_int_eq(error, more == 0 ? E_OK : E_RANGE);
    if (error == E_OK) conf_free(&conf);
  }
  ck_assert_str_eq(why_room,
                   "c.yaml:1: listeners[0].dns_lists[0].text: is too long: with name and address, where they stand, 450 bytes are the most");
}
END_TEST

START_TEST(what_cannot_be) {
#define AT "c.yaml:1: listeners[0]."
#define FIRST AT "dns_lists[0]"
#define WEIGHT " is no weight (like 1, or -2 of a list of good addresses); it may be -100 to 100, but not 0"
  static const char *const wrong[][2] = {
      {IN("{weight: 1}"), FIRST ": has no zone; it needs one (like zone: zen.example.org)"},
      {IN("{zone: zen.example.org.}"), FIRST ".zone: 'zen.example.org.' is no domain name (like zen.example.org)"},
      {IN("{zone: a, name: \"b c\"}"), FIRST ".name: 'b c' is no domain name (like zen.example.org)"},
      {IN("{zone: 127.0.0.1}"), FIRST ".zone: '127.0.0.1' is no domain name (like zen.example.org)"},
      {IN("{zone: a, answers: [127.0.0.2, 192.0.2.1]}"),
       FIRST ".answers[1]: '192.0.2.1' is not within 127.0.0.0/8; whatever else a list answers, it is out of order"},
      {IN("{zone: a, answers: [0.0.0.0/0]}"),
       FIRST ".answers[0]: '0.0.0.0/0' is not within 127.0.0.0/8; whatever else a list answers, it is out of order"},
      {IN("{zone: a, answers: [126.0.0.0/7]}"),
       FIRST ".answers[0]: '126.0.0.0/7' is not within 127.0.0.0/8; whatever else a list answers, it is out of order"},
      {IN("{zone: a, answers: [\"::ffff:127.0.0.2\"]}"),
       FIRST ".answers[0]: '::ffff:127.0.0.2' is not within 127.0.0.0/8; whatever else a list answers, it is out of order"},
      {IN("{zone: a, answers: [127.255.255.254]}"),
       FIRST ".answers[0]: '127.255.255.254' is within 127.255.255.0/24, by which lists say that they do not answer"},
      {IN("{zone: a, answers: [127.0.0.300]}"), FIRST ".answers[0]: '127.0.0.300' is no network (like 10.0.0.0/8, 192.0.2.1 or \"2001:db8::/32\")"},
      {IN("{zone: a, weight: 0}"), FIRST ".weight: '0'" WEIGHT},
      {IN("{zone: a, weight: 101}"), FIRST ".weight: '101'" WEIGHT},
      {IN("{zone: a, weight: --1}"), FIRST ".weight: '--1'" WEIGHT},
      {IN("{zone: a, weight: -}"), FIRST ".weight: '-'" WEIGHT},
      {IN("{zone: a, text: \"100% sure\"}"), FIRST ".text: has a '%' that means nothing; it may be %a, the client's address, or %%"},
      {IN("{zone: a, text: \"sure%\"}"), FIRST ".text: has a '%' that means nothing; it may be %a, the client's address, or %%"},
      {IN("{zone: a, text: \"one\\r\\n550 two\"}"), FIRST ".text: must be one line of ASCII: it is for replies of SMTP"},
      {IN("{zone: a, text: \"\\u00e9\"}"), FIRST ".text: must be one line of ASCII: it is for replies of SMTP"},
      {IN("{zone: a, weight: -1}"), AT "dns_lists: nobody would ever be refused: the weights of all lists together are 0, the threshold is 1"},
      {"listeners: [{dns_lists_threshold: 3, dns_lists: [{zone: a}, {zone: b}]}]\n",
       AT "dns_lists_threshold: nobody would ever be refused: the weights of all lists together are 2, the threshold is 3"},
      {"listeners: [{dns_lists_threshold: 0, dns_lists: [{zone: a}]}]\n", AT "dns_lists_threshold: '0' is out of range; it may be 1 to 1000"},
      {"listeners: [{dns_lists_timeout: 1m, dns_lists: [{zone: a}]}]\n", AT "dns_lists_timeout: '1m' is out of range; it may be 10ms to 30s"},
      {"listeners: [{dns_lists_timeout: 1s}]\n", AT "dns_lists_timeout: needs dns_lists; this listener has none"},
      {"listeners: [{dns_lists_threshold: 1}]\n", AT "dns_lists_threshold: needs dns_lists; this listener has none"},
      {"listeners: [{dns_lists: []}]\n", AT "dns_lists: the list is empty; it needs one entry at least, or leave the key out"},
      {IN("{zone: a, refuse: b}"), FIRST ".refuse: unknown key; known here are: zone, answers, weight, name, text"},
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    struct conf conf;
    ck_assert_msg(parse(&conf, span_of_text(wrong[i][0])) != E_OK, "%s", wrong[i][0]);
    ck_assert_str_eq(why_room, wrong[i][1]);
  }
}
END_TEST

START_TEST(they_outlive_their_configuration) { /* for sessions that began with it */
  struct conf conf = conf_of(IN("{zone: a.example}"));
  struct dns_lists *lists = dns_lists_share(conf.listeners[0].dns_lists);
  conf_free(&conf);
  ck_assert_str_eq(lists->list[0].zone, "a.example");
  dns_lists_put(lists);
  ck_assert_ptr_null(dns_lists_share(NULL));
  dns_lists_put(NULL);
}
END_TEST

int main(void) {
  TCase *tc = tcase_create("dns_lists");
  tcase_add_test(tc, defaults);
  tcase_add_test(tc, what_is_said_counts);
  tcase_add_test(tc, what_clients_are_told);
  tcase_add_test(tc, the_longest);
  tcase_add_test(tc, what_cannot_be);
  tcase_add_test(tc, they_outlive_their_configuration);
  return unit_main("core/conf/dns_lists", &tc, 1);
}
