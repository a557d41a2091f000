/* Changes of the users file: only the one line is another; mode and owner stay; what would be wrong is not written; and two who change it at a time. */
#include "net/auth/users_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/conf/system.h"
#include "tests/lib/unit.h"

static char path[64], lock_path[80];
static uint8_t why_room[512];

static void begin(const char *text) {
  snprintf(path, sizeof path, "/tmp/ringpost-edit-%d", (int)getpid());
  snprintf(lock_path, sizeof lock_path, "%s.lock", path);
  unlink(path);
  if (text != NULL) ck_assert_int_eq(system_write_secret_file(path, span_of_text(text)), E_OK);
}

static void end(void) {
  unlink(path);
  unlink(lock_path);
}

static void check_file(const char *wanted) {
  uint8_t *bytes;
  size_t len;
  ck_assert_int_eq(system_read_file(path, 1 << 20, &bytes, &len), E_OK);
  ck_assert_msg(span_equal(span_of(bytes, len), span_of_text(wanted)), "%.*s", (int)len, (const char *)bytes);
  free(bytes);
}

static struct users_edit edit_begin(void) {
  struct users_edit edit;
  struct fmt why = fmt_over(why_room, sizeof why_room);
  int error = users_edit_begin(&edit, path, &why);
  ck_assert_msg(error == E_OK, "%.*s", (int)why.len, (const char *)why_room);
  return edit;
}

static int put(const char *line) {
  struct users_edit edit = edit_begin();
  struct fmt why = fmt_over(why_room, sizeof why_room);
  struct user user;
  char hash[SECRET_HASH_MAX + 1];
  ck_assert_ptr_null(users_read_line(span_of_text(line), &user, hash));
  int error = users_edit_put(&edit, &user, &why);
  users_edit_end(&edit);
  return error;
}

static int take_out(const char *name) {
  struct users_edit edit = edit_begin();
  struct fmt why = fmt_over(why_room, sizeof why_room);
  int error = users_edit_remove(&edit, span_of_text(name), &why);
  users_edit_end(&edit);
  return error;
}

START_TEST(only_the_one_line) {
  begin("# all\n\nann per_day=1\n#bob\n  bob\tdisabled\ncid per_day=3");
  ck_assert_int_eq(put("bob per_day=2"), E_OK);
  check_file("# all\n\nann per_day=1\n#bob\nbob per_day=2\ncid per_day=3");
  ck_assert_int_eq(put("dan"), E_OK);
  check_file("# all\n\nann per_day=1\n#bob\nbob per_day=2\ncid per_day=3\ndan\n");
  ck_assert_int_eq(put("cid disabled"), E_OK);
  check_file("# all\n\nann per_day=1\n#bob\nbob per_day=2\ncid disabled\ndan\n");
  ck_assert_int_eq(take_out("ann"), E_OK);
  check_file("# all\n\n#bob\nbob per_day=2\ncid disabled\ndan\n");
  ck_assert_int_eq(take_out("ann"), E_NOT_FOUND);
  ck_assert_int_eq(take_out("#bob"), E_NOT_FOUND);
  ck_assert_int_eq(take_out("dan"), E_OK);
  check_file("# all\n\n#bob\nbob per_day=2\ncid disabled\n");
  end();
}
END_TEST

START_TEST(a_file_that_is_not_there) {
  begin(NULL);
  ck_assert_int_eq(put("ann"), E_OK);
  check_file("ann\n");
  struct stat status;
  ck_assert(stat(path, &status) == 0 && (status.st_mode & 07777) == 0600);
  end();
}
END_TEST

START_TEST(mode_and_owner_stay) {
  begin("ann\n");
  bool root = getuid() == 0;
  if (root) ck_assert_int_eq(chown(path, 12345, 23456), 0);
  ck_assert_int_eq(chmod(path, 0640), 0);
  ck_assert_int_eq(put("bob"), E_OK);
  struct stat status;
  ck_assert(stat(path, &status) == 0 && (status.st_mode & 07777) == 0640);
  if (root) ck_assert(status.st_uid == 12345 && status.st_gid == 23456);
  end();
}
END_TEST

START_TEST(what_the_line_says) {
  begin("ann per_day=7 tenant=acme\n");
  struct users_edit edit = edit_begin();
  struct user user;
  char hash[SECRET_HASH_MAX + 1];
  ck_assert(users_edit_find(&edit, SPAN("ann"), &user, hash));
  ck_assert(user.per_day == 7 && span_equal(user.tenant, SPAN("acme")));
  ck_assert(!users_edit_find(&edit, SPAN("an"), &user, hash));
  users_edit_end(&edit);
  users_edit_end(&edit);
  end();
}
END_TEST

START_TEST(nothing_wrong_is_read_or_written) {
  struct users_edit edit;
  struct fmt why = fmt_over(why_room, sizeof why_room);
  begin("ann what\n");
  ck_assert_int_eq(users_edit_begin(&edit, path, &why), E_SYNTAX);
  users_edit_end(&edit);
  begin("ann\n");
  edit = edit_begin();
  struct user user = {.name = SPAN("bob"), .hash = (char[]){""}, .tenant = SPAN("a b")};
  ck_assert_int_eq(users_edit_put(&edit, &user, &why), E_SYNTAX);
  users_edit_end(&edit);
  check_file("ann\n");
  end();
}
END_TEST

START_TEST(two_at_a_time_lose_nothing) {
  enum { PROCESSES = 8, EACH = 10 };
  begin("");
  for (unsigned i = 0; i < PROCESSES; i++) {
    if (fork() != 0) continue;
    for (unsigned k = 0; k < EACH; k++) {
      char line[32];
      snprintf(line, sizeof line, "u%u_%u", i, k);
      if (put(line) != E_OK) _exit(1);
    }
    _exit(0);
  }
  for (unsigned i = 0; i < PROCESSES; i++) {
    int status;
    ck_assert_int_gt(wait(&status), 0);
    ck_assert_int_eq(status, 0);
  }
  struct users *users;
  struct fmt why = fmt_over(why_room, sizeof why_room);
  ck_assert_int_eq(users_load(&users, path, &why), E_OK);
  ck_assert_uint_eq(users_count(users), PROCESSES * EACH);
  users_drop(users);
  end();
}
END_TEST

START_TEST(a_lock_that_is_not_given_back) {
  begin("ann\n");
  int handle, other;
  ck_assert_int_eq(system_lock_file(path, 0, &handle), E_OK);
  ck_assert_int_eq(system_lock_file(path, 100, &other), E_BUSY);
  system_unlock_file(handle);
  ck_assert_int_eq(system_lock_file(path, 0, &other), E_OK);
  system_unlock_file(other);
  end();
}
END_TEST

int main(void) {
  TCase *tests = tcase_create("users_edit");
  tcase_add_test(tests, only_the_one_line);
  tcase_add_test(tests, a_file_that_is_not_there);
  tcase_add_test(tests, mode_and_owner_stay);
  tcase_add_test(tests, what_the_line_says);
  tcase_add_test(tests, nothing_wrong_is_read_or_written);
  tcase_add_test(tests, two_at_a_time_lose_nothing);
  tcase_add_test(tests, a_lock_that_is_not_given_back);
  return unit_main("net/auth/users_edit", &tests, 1);
}
