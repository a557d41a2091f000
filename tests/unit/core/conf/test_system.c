#include "core/conf/system.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

#include "core/base/error.h"

static void check_resolver(const struct conf_system *system, unsigned index, const char *expected) {
  char room[64];
  struct fmt out = fmt_over(room, sizeof room - 1);
  netaddr_format_with_port(&system->resolvers[index], &out);
  room[out.len] = '\0';
  ck_assert_str_eq(room, expected);
}

START_TEST(resolv_conf) {
  struct conf_system system = {0};
  system_read_resolvers(&system, SPAN("# comment\n; comment\nsearch example.org\nnameserver 192.0.2.53\n  nameserver\t2001:db8::53 # local\r\n"
                                      "nameserver fe80::1%eth0\nnameserver\nnameservers 192.0.2.1\nnameserver not.an.address\nnameserver 127.0.0.1"));
  ck_assert_uint_eq(system.resolvers_count, 3);
  check_resolver(&system, 0, "192.0.2.53:53");
  check_resolver(&system, 1, "[2001:db8::53]:53");
  check_resolver(&system, 2, "127.0.0.1:53");
}
END_TEST

START_TEST(more_resolvers_than_there_is_room_for) {
  struct conf_system system = {0};
  for (unsigned i = 0; i < 5; i++) system_read_resolvers(&system, SPAN("nameserver 192.0.2.53\n\n\nnameserver 192.0.2.54\n"));
  ck_assert_uint_eq(system.resolvers_count, SYSTEM_RESOLVERS_MAX);
  system_read_resolvers(&system, (struct span){NULL, 0});
  ck_assert_uint_eq(system.resolvers_count, SYSTEM_RESOLVERS_MAX);
}
END_TEST

START_TEST(the_machine_has_something) {
  struct conf_system system;
  system_look(&system);
  ck_assert_uint_ge(system.cores, 1);
  ck_assert_uint_ge(system.memory_bytes, 1 << 20);
  ck_assert_uint_le(system.resolvers_count, SYSTEM_RESOLVERS_MAX);
}
END_TEST

START_TEST(whole_files) {
  uint8_t *bytes;
  size_t len;
  ck_assert_int_eq(system_read_file("/dev/null", 0, &bytes, &len), E_OK);
  ck_assert_uint_eq(len, 0);
  free(bytes);
  ck_assert_int_eq(system_read_file("/dev/zero", 100000, &bytes, &len), E_TOO_LONG);
  ck_assert_ptr_null(bytes);
  size_t whole;
  ck_assert_int_eq(system_read_file("/proc/self/exe", 1 << 30, &bytes, &whole), E_OK);
  free(bytes);
  ck_assert_int_eq(system_read_file("/proc/self/exe", whole, &bytes, &len), E_OK);
  ck_assert_uint_eq(len, whole);
  free(bytes);
  ck_assert_int_eq(system_read_file("/proc/self/exe", whole - 1, &bytes, &len), E_TOO_LONG);
  ck_assert_int_eq(system_read_file("/nonexistent", 10, &bytes, &len), E_NOT_FOUND);
  ck_assert_int_ne(system_read_file("/", 10, &bytes, &len), E_OK);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, resolv_conf);
  tcase_add_test(all, more_resolvers_than_there_is_room_for);
  tcase_add_test(all, the_machine_has_something);
  tcase_add_test(all, whole_files);
  return unit_main("core/conf/system", &all, 1);
}
