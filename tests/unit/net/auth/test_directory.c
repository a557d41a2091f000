/* The users file is taken anew when it changes; views see it, holders of an old table keep theirs, a wrong file changes nothing; and threads that look meanwhile. */
#include "net/auth/directory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/conf/system.h"
#include "tests/lib/unit.h"

struct world {
  char path[64];
  struct directory *directory;
  char why_room[513];
  struct fmt why;
};

static void put(const struct world *w, const char *text) { ck_assert_int_eq(system_write_secret_file(w->path, span_of_text(text)), E_OK); }

static struct world begin(const char *text) {
  struct world w = {.path = "/tmp/ringpost-directory-XXXXXX"};
  close(mkstemp(w.path));
  put(&w, text);
  w.why = fmt_over(w.why_room, 512);
  ck_assert_int_eq(directory_open(&w.directory, w.path, &w.why), E_OK);
  return w;
}

static void end(struct world *w) {
  directory_close(w->directory);
  unlink(w->path);
}

/* Twice: what has just changed is left alone the first time. */
static int look(struct world *w) {
  w->why = fmt_over(w->why_room, 512);
  int first = directory_look(w->directory, &w->why), result = directory_look(w->directory, &w->why);
  ck_assert_int_eq(first, 0);
  w->why_room[w->why.len] = '\0';
  return result;
}

START_TEST(taken_anew) {
  struct world w = begin("a per_day=1\n");
  struct directory_view view;
  directory_view_init(&view, w.directory);
  ck_assert_uint_eq(users_find(directory_users(&view), SPAN("a"))->per_day, 1);
  ck_assert_int_eq(look(&w), 0);
  put(&w, "a per_day=2\nb\n");
  struct users *held = users_share(directory_users(&view));
  ck_assert_int_eq(look(&w), 1);
  ck_assert_int_eq(look(&w), 0);
  ck_assert_uint_eq(users_find(directory_users(&view), SPAN("a"))->per_day, 2);
  ck_assert_ptr_nonnull(users_find(directory_users(&view), SPAN("b")));
  ck_assert_uint_eq(users_find(held, SPAN("a"))->per_day, 1);
  ck_assert_int_eq(look(&w), 0);
  ck_assert_uint_eq(directory_old_tables(w.directory), 1);
  users_drop(held);
  ck_assert_int_eq(look(&w), 0);
  ck_assert_uint_eq(directory_old_tables(w.directory), 0);
  ck_assert_int_eq(directory_reload(w.directory, &w.why), 1);
  directory_view_fini(&view);
  end(&w);
}
END_TEST

START_TEST(a_wrong_file_changes_nothing) {
  struct world w = begin("a per_day=1\n");
  struct directory_view view;
  directory_view_init(&view, w.directory);
  put(&w, "a per_day=2\nb what\n");
  ck_assert_int_eq(look(&w), E_SYNTAX);
  ck_assert_ptr_nonnull(strstr(w.why_room, ":2: it may have"));
  ck_assert_int_eq(look(&w), 0); /* said once */
  ck_assert_uint_eq(users_find(directory_users(&view), SPAN("a"))->per_day, 1);
  unlink(w.path);
  ck_assert_int_eq(look(&w), E_NOT_FOUND);
  ck_assert_int_eq(look(&w), 0);
  ck_assert_uint_eq(users_find(directory_users(&view), SPAN("a"))->per_day, 1);
  put(&w, "a per_day=3\n");
  ck_assert_int_eq(look(&w), 1);
  ck_assert_uint_eq(users_find(directory_users(&view), SPAN("a"))->per_day, 3);
  directory_view_fini(&view);
  end(&w);
}
END_TEST

START_TEST(a_file_that_is_still_being_written) {
  struct world w = begin("a per_day=1\n");
  struct directory_view view;
  directory_view_init(&view, w.directory);
  FILE *file = fopen(w.path, "w");
  ck_assert_ptr_nonnull(file);
  ck_assert_int_eq(directory_look(w.directory, &w.why), 0); /* empty, for a moment */
  fputs("a per_day=2\n", file);
  fflush(file);
  ck_assert_int_eq(directory_look(w.directory, &w.why), 0);
  fputs("b per_day=2\n", file);
  fclose(file);
  ck_assert_int_eq(directory_look(w.directory, &w.why), 0);
  ck_assert_uint_eq(users_find(directory_users(&view), SPAN("a"))->per_day, 1);
  ck_assert_int_eq(directory_look(w.directory, &w.why), 1);
  ck_assert_uint_eq(users_count(directory_users(&view)), 2);
  directory_view_fini(&view);
  end(&w);
}
END_TEST

START_TEST(no_directory) {
  struct directory_view view;
  directory_view_init(&view, NULL);
  ck_assert_ptr_null(directory_users(&view));
  directory_view_fini(&view);
  struct directory *directory;
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room);
  ck_assert_int_eq(directory_open(&directory, "/nonexistent/users", &why), E_NOT_FOUND);
  ck_assert_uint_gt(why.len, 0);
}
END_TEST

/* ---- threads that look names up while the table is exchanged ---- */

struct reader {
  struct directory *directory;
  _Atomic bool *stop;
  pthread_t thread;
  uint64_t looks, newest;
  bool wrong;
};

static void *read_on(void *argument) {
  struct reader *reader = argument;
  struct directory_view view;
  struct users *held = NULL;
  directory_view_init(&view, reader->directory);
  while (!atomic_load(reader->stop)) {
    struct users *users = directory_users(&view);
    const struct user *a = users_find(users, SPAN("a")), *b = users_find(users, SPAN("b"));
    reader->wrong |= a == NULL || b == NULL || a->per_day != b->per_day || a->per_day < reader->newest;
    if (!reader->wrong) reader->newest = a->per_day;
    if (++reader->looks % 64 == 0) {
      users_drop(held);
      held = users_share(users);
    }
  }
  users_drop(held);
  directory_view_fini(&view);
  return NULL;
}

START_TEST(while_others_look) {
  struct world w = begin("a per_day=1\nb per_day=1\n");
  _Atomic bool stop = false;
  struct reader readers[3];
  for (unsigned i = 0; i < 3; i++) {
    readers[i] = (struct reader){.directory = w.directory, .stop = &stop};
    pthread_create(&readers[i].thread, NULL, read_on, &readers[i]);
  }
  for (unsigned i = 2; i <= 200; i++) {
    char text[64];
    snprintf(text, sizeof text, "a per_day=%u\nb per_day=%u\n", i, i);
    put(&w, text);
    ck_assert_int_eq(look(&w), 1);
  }
  atomic_store(&stop, true);
  for (unsigned i = 0; i < 3; i++) {
    pthread_join(readers[i].thread, NULL);
    ck_assert(!readers[i].wrong && readers[i].newest > 1);
  }
  end(&w);
}
END_TEST

int main(void) {
  TCase *tests = tcase_create("directory");
  tcase_add_test(tests, taken_anew);
  tcase_add_test(tests, a_wrong_file_changes_nothing);
  tcase_add_test(tests, a_file_that_is_still_being_written);
  tcase_add_test(tests, no_directory);
  tcase_add_test(tests, while_others_look);
  return unit_main("net/auth/directory", &tests, 1);
}
