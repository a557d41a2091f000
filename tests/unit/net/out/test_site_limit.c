/* What the configuration says of some sites, and jobs that get too old in one. */
#include "tests/unit/net/out/fake_shards.c"

#include "core/conf/sites.h"

/* ---- entries for the hosts of a site ---- */

static struct conf read_conf(const char *list) {
  struct conf read;
  char text[1024], room[512];
  struct fmt why = fmt_over(room, sizeof room);
  snprintf(text, sizeof text, "hostname: a.b\nlisteners: [{port: 25}]\ndelivery: {connections_per_site: 10}\nsites: %s\n", list);
  ck_assert_int_eq(conf_parse(&read, span_of_text(text), "c.yaml", &why), E_OK);
  return read;
}

static void check_site(const char *name, int entry, uint32_t connections, uint32_t per_connection) {
  struct site *site = site_get(&outlets[0], name);
  ck_assert_msg(site->entry == (entry < 0 ? NULL : &conf.sites[entry]), "%s: %d", name, (int)(site->entry - conf.sites));
  ck_assert_uint_eq(site->lease_home.limit, connections);
  ck_assert_uint_eq(site->messages_max, per_connection);
}

START_TEST(a_pattern_matches_any_host_of_a_site) {
  conf = read_conf("[{match: [mx2.example.org]}, {match: [\"*.example.org\", mx.example.com], connections_per_site: 3},"
                   " {match: [\"*.google.com\"], connections_per_site: 20, messages_per_connection: 7}]");
  check_site("aspmx.l.google.com", 2, 20, 7);
  check_site("alt1.aspmx.l.google.com,alt2.aspmx.l.google.com", 2, 20, 7);
  check_site("google.com", -1, 10, 100);
  check_site("a.example.net,mx.example.com", 1, 3, 100);
  check_site("mx1.example.org,z.google.com", 1, 3, 100); /* the first in the file, not the first host */
  check_site("mx1.example.org,mx2.example.org", 0, 10, 100);
  check_site("192.0.2.1:25,192.0.2.2:25", -1, 10, 100);
  check_site("a.example.net,mx.exam#0123456789abcdef", -1, 10, 100); /* the name is cut: its last host is unknown */
  check_site("mx.example.co", -1, 10, 100);
  conf_free(&conf);
}
END_TEST

START_TEST(what_is_said_of_hosts_goes_before_what_is_said_of_domains) {
  conf =
      read_conf("[{match: [d.example], connections_per_site: 2, messages_per_connection: 5}, {match: [\"*.google.com\"], connections_per_site: 20}]");
  struct site *site = site_get(&outlets[0], "aspmx.l.google.com");
  site_heed(site, &conf.sites[0]);
  check_site("aspmx.l.google.com", 1, 20, 100);
  conf_free(&conf);
}
END_TEST

/* ---- entries for domains ---- */

static const struct conf_site narrow = {.connections_per_site = 4, .messages_per_connection = 20};
static const struct conf_site narrower = {.connections_per_site = 2, .messages_per_connection = 50};
static const struct conf_site wide = {.connections_per_site = 30, .messages_per_connection = 1000};

START_TEST(of_several_domains_the_lowest_value_of_each_counts) {
  struct site *site = sites[home];
  site_heed(site, NULL);
  ck_assert_uint_eq(site->lease_home.limit, LIMIT);
  site_heed(site, &wide); /* alone it may be more than in general */
  ck_assert_uint_eq(site->lease_home.limit, 30);
  ck_assert_uint_eq(site->messages_max, 1000);
  site_heed(site, &narrow);
  site_heed(site, &narrower);
  site_heed(site, NULL);
  site_heed(site, &wide);
  ck_assert_uint_eq(site->lease_home.limit, 2);
  ck_assert_uint_eq(site->messages_max, 20);
  enqueue(home, 100);
  pump(home);
  ck_assert_uint_eq(site->open, 2);
}
END_TEST

/* ---- how safe it has to be ---- */

static void check_security(struct site *site, enum conf_security tls, unsigned calls) {
  ck_assert_int_eq(site->tls, tls);
  ck_assert_uint_eq(lax_retired, calls);
}

START_TEST(of_several_domains_the_strictest_counts) {
  static const struct conf_site none = {.tls = CONF_SECURITY_NONE}, verify = {.tls = CONF_SECURITY_VERIFY}, require = {.tls = CONF_SECURITY_REQUIRE};
  struct site *site = sites[home];
  conf.delivery_tls = CONF_SECURITY_OPPORTUNISTIC;
  lax_retired = 0;
  site_heed(site, &none);
  check_security(site, CONF_SECURITY_NONE, 0);
  site_heed(site, NULL); /* a domain without an entry has a say too */
  check_security(site, CONF_SECURITY_OPPORTUNISTIC, 1);
  site_heed(site, &require);
  site_heed(site, &none);
  check_security(site, CONF_SECURITY_REQUIRE, 2);
  site_heed(site, &verify);
  site_heed(site, &require);
  check_security(site, CONF_SECURITY_VERIFY, 3);
}
END_TEST

START_TEST(what_is_said_of_hosts_is_heeded_alone) {
  static const struct conf_site verify = {.tls = CONF_SECURITY_VERIFY};
  conf = read_conf("[{match: [\"*.google.com\"], tls: none}]");
  struct site *site = site_get(&outlets[0], "aspmx.l.google.com");
  lax_retired = 0;
  site_heed(site, NULL);
  site_heed(site, &verify);
  check_security(site, CONF_SECURITY_NONE, 0);
  conf_free(&conf);
}
END_TEST

START_TEST(a_route_has_its_own_idea) {
  static const struct conf_site verify = {.tls = CONF_SECURITY_VERIFY};
  char bob[] = "bob", secret[] = "secret", another[] = "other";
  struct conf_route route = {.tls = CONF_SECURITY_REQUIRE, .user = bob, .password = secret};
  struct site *site = sites[home];
  lax_retired = 0;
  retired_to[home] = 99;
  ck_assert(site_set_route(site, &route));
  ck_assert_uint_eq(retired_to[home], 0);
  ck_assert(site->tls == CONF_SECURITY_REQUIRE && strcmp(site->user, "bob") == 0 && strcmp(site->password, "secret") == 0);
  site_heed(site, &verify);
  check_security(site, CONF_SECURITY_REQUIRE, 0);
  retired_to[home] = 99;
  ck_assert(site_set_route(site, &route)); /* nothing new */
  ck_assert_uint_eq(retired_to[home], 99);
  route.password = another;
  ck_assert(site_set_route(site, &route));
  ck_assert_str_eq(site->password, "other");
  ck_assert_uint_eq(retired_to[home], 0);
}
END_TEST

/* What is known of an address stays when the answer of DNS is another, and goes with it. */
START_TEST(an_address_keeps_what_is_known_of_its_tls) {
  struct site *site = sites[home];
  struct mx_host host = {
      .addresses = 2, .name = "mx.example", .address = {{.family = 4, .bytes = {192, 0, 2, 1}}, {.family = 4, .bytes = {192, 0, 2, 2}}}};
  struct mx_set set = {.status = MX_OK, .hosts = 1, .host = &host};
  struct tls_session *session = (struct tls_session *)&host; /* not looked at */
  ck_assert(site_set_hosts(site, &set, 25, NULL));
  site_target(site, &site->targets[1].address)->tls_broken_until_ms = 5;
  site->targets[1].session = session;
  host.address[0] = host.address[1];
  host.address[1] = (struct netaddr){.family = 4, .bytes = {192, 0, 2, 3}};
  ck_assert(site_set_hosts(site, &set, 25, NULL));
  ck_assert_uint_eq(site->targets[0].tls_broken_until_ms, 5);
  ck_assert_ptr_eq(site->targets[0].session, session);
  ck_assert(site->targets[1].tls_broken_until_ms == 0 && site->targets[1].session == NULL);
  host.address[0] = (struct netaddr){.family = 4, .bytes = {192, 0, 2, 4}};
  sessions_forgotten = 0;
  ck_assert(site_set_hosts(site, &set, 25, NULL));
  ck_assert_uint_eq(sessions_forgotten, 1);
  ck_assert(site_target(site, &(struct netaddr){.family = 4, .bytes = {192, 0, 2, 2}, .port = 25}) == NULL);
}
END_TEST

static struct proof *proof_of(enum demand demand, uint8_t digest) {
  uint8_t bytes[32] = {digest};
  struct dane dane = {.status = DANE_USE, .count = 1, .record[0] = {3, 1, 1, span_of(bytes, sizeof bytes)}};
  ck_assert_int_eq(dns_name_parse(&dane.base, SPAN("mx.example")), E_OK);
  struct proof *proof = proof_new(demand, SPAN("mx.example"), SPAN("example.org"), &dane);
  ck_assert_ptr_nonnull(proof);
  return proof;
}

/* Each address has what its host has to prove, and connections hear of it when that is another. */
START_TEST(what_has_to_be_proved_belongs_to_an_address) {
  struct site *site = sites[home];
  struct mx_host host[2] = {
      {.addresses = 2, .name = "a.example", .address = {{.family = 4, .bytes = {192, 0, 2, 1}}, {.family = 4, .bytes = {192, 0, 2, 2}}}},
      {.addresses = 1, .name = "b.example", .address = {{.family = 4, .bytes = {192, 0, 2, 3}}}}};
  struct mx_set set = {.status = MX_OK, .hosts = 2, .host = host};
  struct proof *first[2] = {proof_of(DEMAND_DANE, 1), NULL}, *again[2] = {proof_of(DEMAND_DANE, 1), NULL},
               *other_one[2] = {proof_of(DEMAND_DANE, 2), NULL};
  unproven = 0;
  ck_assert(site_set_hosts(site, &set, 25, first));
  ck_assert(site->targets[0].proof == first[0] && site->targets[1].proof == first[0] && site->targets[2].proof == NULL);
  ck_assert_uint_eq(unproven, 1);
  ck_assert(site_set_hosts(site, &set, 25, again));
  ck_assert(unproven == 1 && site->targets[0].proof == first[0]);
  ck_assert(site_set_hosts(site, &set, 25, other_one));
  ck_assert(unproven == 2 && site->targets[1].proof == other_one[0]);
  host[0].addresses = 0; /* it must not be tried for now */
  ck_assert(site_set_hosts(site, &set, 25, other_one));
  ck_assert(site->targets_count == 1 && site->targets[0].proof == NULL && unproven == 3);
  proof_drop(first[0]);
  proof_drop(again[0]);
  proof_drop(other_one[0]);
}
END_TEST

START_TEST(the_home_hears_of_it_once) {
  site_heed(sites[guest], &narrow);
  site_heed(sites[guest], &narrow);
  site_heed(sites[guest], &wide);
  ck_assert_uint_eq(waiting_letters(guest, home, LETTER_SITE_LIMIT), 1);
  arrive_all();
  ck_assert_uint_eq(sites[home]->lease_home.limit, 4);
  ck_assert_uint_eq(sites[guest]->messages_max, 20);
  site_heed(sites[other], &narrower);
  arrive_all();
  ck_assert_uint_eq(sites[home]->lease_home.limit, 2);
}
END_TEST

/* It was forgotten there, with all it had heard. */
START_TEST(a_home_that_has_forgotten_hears_of_it_before_it_grants) {
  site_heed(sites[guest], &narrow);
  arrive_all();
  sites[home]->domains_limit = 0;
  sites[home]->lease_home.limit = LIMIT;
  enqueue(guest, LEASE_HOT_JOBS);
  arrive_all();
  ck_assert_uint_eq(sites[home]->lease_home.limit, 4);
  ck_assert_uint_le(sites[home]->lease_home.granted, 4);
}
END_TEST

START_TEST(a_lower_limit_takes_back_what_there_is_above_it) {
  lease_to(guest);
  enqueue(guest, 3);
  pump(guest);
  ck_assert_uint_eq(sites[guest]->open, LIMIT / SHARDS);
  enqueue(home, 20);
  pump(home);
  ck_assert_uint_eq(all_open(), LIMIT);
  site_heed(sites[home], &narrower);
  ck_assert_uint_eq(retired_to[home], 0); /* 3 are lent, more than there may be */
  arrive_all();
  ck_assert_uint_eq(retired_to[guest], 0);
  enqueue(guest, 10);
  enqueue(home, 10);
  arrive_all();
  ck_assert_uint_eq(all_open(), LIMIT); /* none is opened in place of any */
  while (sites[guest]->open > 0) close_one(guest);
  while (sites[home]->open > 0) {
    close_one(home);
    arrive_all();
    ck_assert_uint_le(sites[home]->open, 6);
    if (sites[home]->open == 2) break;
  }
  ck_assert_uint_eq(sites[home]->lease_home.granted, 0);
  for (unsigned i = 0; i < SHARDS; i++) enqueue(i, 50);
  arrive_all();
  ck_assert_uint_eq(all_open(), 2);
  check_books();
}
END_TEST

/* Whenever it is heard of: when what was open has ended, the lower limit holds, and nothing is lent that nobody has. */
START_TEST(the_lower_limit_holds_whatever_crosses) {
  srand((unsigned)_i + 1);
  int at = rand() % 300;
  for (int step = 0; step < 600; step++) {
    unsigned shard = (unsigned)rand() % SHARDS, peer = (unsigned)rand() % SHARDS;
    if (step == at) site_heed(sites[shard], &narrow);
    if (step == at + 100) site_heed(sites[peer], &narrower);
    switch (rand() % 4) {
    case 0:
      if (rand() % 8 == 0) enqueue_stray(shard);
      enqueue(shard, (unsigned)rand() % 20);
      break;
    case 1: arrive(shard, peer); break;
    case 2:
      if (sites[shard]->open > 0) close_one(shard);
      break;
    case 3: let_pass((uint64_t)rand() % 50); break;
    }
    if (rand() % 2 == 0) pump(shard);
    ck_quick(all_open() <= LIMIT);
  }
  for (unsigned round = 0; round < 3; round++) {
    arrive_all();
    for (unsigned i = 0; i < SHARDS; i++)
      while (sites[i]->open > 0) close_one(i);
  }
  arrive_all();
  for (unsigned round = 0; round < 20; round++) {
    for (unsigned i = 0; i < SHARDS; i++) enqueue(i, LEASE_HOT_JOBS);
    let_pass(500);
    arrive_all();
    ck_assert_uint_ge(all_open(), 1);
    ck_assert_uint_le(all_open(), 2);
    for (unsigned i = 0; i < SHARDS; i++)
      if (sites[i]->open > 0) close_one(i);
    check_books();
  }
}
END_TEST

/* ---- age ---- */

/* They are in the order of their coming: the one that is to end first may stand behind others. */
START_TEST(what_is_too_old_ends_wherever_it_stands) {
  static const uint64_t ends_s[] = {500, 20, 500, 10, 30};
  dead = true;
  enqueue(home, 1);
  pump(home);
  fail_one(home); /* blocked: what comes now waits */
  ended = 0;
  uint64_t wall_ms = shards[home].wall_ms;
  for (unsigned i = 0; i < 5; i++) {
    jobs[jobs_made % JOBS] = (struct job){.give_up_ms = 0};
    struct job *job = &jobs[jobs_made++ % JOBS];
    *job = (struct job){.message = &messages[i], .owner = (uint16_t)home, .give_up_ms = wall_ms + ends_s[i] * 1000};
    site_enqueue(sites[home], job);
  }
  static const unsigned left[] = {5, 4, 3, 2};
  for (unsigned i = 0; i < 4; i++) {
    sites_sweep(&outlets[home]);
    ck_assert_uint_eq(sites[home]->jobs, left[i]);
    ck_assert_uint_eq(ended, 5 - left[i]);
    shards[home].wall_ms += i == 0 ? 10000 : 10000;
  }
  ck_assert_uint_eq(sites[home]->first->give_up_ms, wall_ms + 500000);
  ck_assert_ptr_eq(sites[home]->first->next, sites[home]->last);
  shards[home].wall_ms = wall_ms + 499999;
  sites_sweep(&outlets[home]);
  ck_assert_uint_eq(sites[home]->jobs, 2);
  shards[home].wall_ms++;
  sites_sweep(&outlets[home]);
  ck_assert_uint_eq(sites[home]->jobs, 0);
  ck_assert_ptr_null(sites[home]->first);
  ck_assert_ptr_null(sites[home]->last);
}
END_TEST

/* ---- probes ---- */

START_TEST(a_site_that_failed_is_tried_by_one_and_the_rest_of_its_mail_waits) {
  dead = true;
  enqueue(home, 50);
  pump(home);
  ck_assert_uint_eq(sites[home]->open, LIMIT);
  for (unsigned i = 0; i < LIMIT; i++) fail_begin(home);
  for (unsigned i = 0; i < LIMIT; i++) fail_end(home);
  deferred = opened = 0;
  enqueue(home, 50);
  for (unsigned second = 0; second < 29; second++) {
    let_pass(1000);
    arrive_all();
  }
  ck_assert_uint_eq(opened + deferred, 0);
  dead = false;
  let_pass(1000);
  arrive_all();
  ck_assert_uint_eq(opened, 1);
  ck_assert_uint_eq(sites[home]->jobs, 49);
  enqueue(home, 50);
  arrive_all();
  ck_assert_uint_eq(opened, 1); /* until its first transaction has ended */
  site_succeeded(sites[home], &sites[home]->targets[0].address);
  arrive_all();
  ck_assert_uint_eq(sites[home]->open, LIMIT);
  ck_assert_uint_eq(deferred, 0);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_checked_fixture(all, open_world, close_world);
  tcase_add_test(all, a_pattern_matches_any_host_of_a_site);
  tcase_add_test(all, what_is_said_of_hosts_goes_before_what_is_said_of_domains);
  tcase_add_test(all, of_several_domains_the_lowest_value_of_each_counts);
  tcase_add_test(all, the_home_hears_of_it_once);
  tcase_add_test(all, of_several_domains_the_strictest_counts);
  tcase_add_test(all, what_is_said_of_hosts_is_heeded_alone);
  tcase_add_test(all, a_route_has_its_own_idea);
  tcase_add_test(all, an_address_keeps_what_is_known_of_its_tls);
  tcase_add_test(all, what_has_to_be_proved_belongs_to_an_address);
  tcase_add_test(all, a_home_that_has_forgotten_hears_of_it_before_it_grants);
  tcase_add_test(all, a_lower_limit_takes_back_what_there_is_above_it);
  tcase_add_loop_test(all, the_lower_limit_holds_whatever_crosses, 0, 30);
  tcase_add_test(all, what_is_too_old_ends_wherever_it_stands);
  tcase_add_test(all, a_site_that_failed_is_tried_by_one_and_the_rest_of_its_mail_waits);
  return unit_main("net/out/site_limit", &all, 1);
}
