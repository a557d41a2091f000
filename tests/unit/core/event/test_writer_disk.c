/* The writer on the real ring and a real directory: what was counted is in the files, in order, whole, within the size and number of files asked for. */
#include "tests/lib/unit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/event/writer.h"
#include "tests/lib/json.h"

#define KIND 5
#define FILE_SIZE (256u << 10)

static char directory[] = "/tmp/ringpost-events-XXXXXX";
static struct io *io;
static struct counters counters;

static void set_up(void) {
  const char *why = NULL;
  ck_assert_ptr_nonnull(mkdtemp(directory));
  ck_assert_msg(io_open(&io, &(struct io_options){.sockets_max = 16, .receive_buffers = 16, .receive_buffer_size = 4096}, &why) == E_OK, "%s", why);
}

static int by_name(const struct dirent *entry) { return entry->d_name[0] != '.'; }

static void tear_down(void) {
  struct dirent **entries;
  char path[512];
  int count = scandir(directory, &entries, by_name, alphasort);
  for (int i = 0; i < count; i++) {
    snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
    unlink(path);
    free(entries[i]);
  }
  free(entries);
  rmdir(directory);
  io_destroy(io);
}

static struct event_writer *open_writer(unsigned files_max) {
  struct event_writer *writer;
  char room[256];
  struct fmt why = fmt_over(room, sizeof room);
  struct event_writer_options options = {.path = directory, .shard = 0, .file_size_bytes = FILE_SIZE, .files_max = files_max, .counters = &counters};
  ck_assert_int_eq(event_writer_open(&writer, io, &options, KIND, &why), E_OK);
  return writer;
}

static void wait_completions(struct event_writer *writer, uint64_t until_ns) {
  const struct io_completion *done;
  unsigned count = io_wait(io, until_ns, &done);
  for (unsigned i = 0; i < count; i++) event_writer_complete(writer, &done[i]);
}

static void drain(struct event_writer *writer) {
  while (!event_writer_idle(writer)) {
    event_writer_turn(writer, io_now_ns(io) / 1000000, true);
    wait_completions(writer, UINT64_MAX);
  }
}

static void write_many(struct event_writer *writer, unsigned from, unsigned to) {
  for (unsigned i = from; i < to; i++) {
    event_write(writer, &(struct event){.type = EVENT_DELIVERY, .id = i, .sender = SPAN("a@example.net"), .recipient = SPAN("b@example.org")});
    if (i % 200 == 199) drain(writer); /* so that no batch is longer than a file, however slow the disk is today */
  }
  drain(writer);
}

/* Reads all files in the order of their names; the ids must follow each other. Returns the last one. */
static uint64_t read_all(uint64_t next, int *files) {
  struct dirent **entries;
  *files = scandir(directory, &entries, by_name, alphasort);
  for (int i = 0; i < *files; i++) {
    char path[512], line[4096];
    snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file) != NULL) {
      unsigned long long id;
      ck_assert(json_is_object(span_of(line, strlen(line) - 1)));
      ck_assert_int_eq(sscanf(line, "{\"type\":\"Delivery\",\"id\":\"%16llx\"", &id), 1);
      if (next == 0) next = id;
      ck_assert_uint_eq(id, next);
      next++;
    }
    ck_assert_int_gt(ftell(file), 0);
    ck_assert_int_le(ftell(file), FILE_SIZE);
    fclose(file);
    free(entries[i]);
  }
  free(entries);
  return next - 1;
}

START_TEST(all_that_was_counted_is_there) {
  int files;
  struct event_writer *writer = open_writer(0);
  write_many(writer, 1, 20001);
  event_writer_close(writer);
  writer = open_writer(0); /* a second life goes on behind the first */
  write_many(writer, 20001, 20011);
  event_writer_close(writer);
  ck_assert_uint_eq(read_all(1, &files), 20010);
  ck_assert_int_gt(files, 5);
  ck_assert_uint_eq(count_get(&counters, COUNT_EVENTS), 20010);
  ck_assert_uint_eq(count_get(&counters, COUNT_EVENTS_LOST), 0);
}
END_TEST

START_TEST(the_newest_files_are_kept) {
  int files;
  struct event_writer *writer = open_writer(2);
  write_many(writer, 1, 20001);
  event_writer_close(writer);
  ck_assert_uint_eq(read_all(0, &files), 20000);
  ck_assert_int_eq(files, 2);
}
END_TEST

START_TEST(close_waits_for_the_write_under_way) {
  int files;
  struct event_writer *writer = open_writer(0);
  for (unsigned i = 1; i <= 50; i++) event_write(writer, &(struct event){.type = EVENT_DELIVERY, .id = i});
  event_writer_turn(writer, 1, true);
  for (unsigned i = 51; i <= 60; i++) event_write(writer, &(struct event){.type = EVENT_DELIVERY, .id = i});
  event_writer_close(writer);
  ck_assert_uint_eq(read_all(1, &files), 60);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_checked_fixture(all, set_up, tear_down);
  tcase_add_test(all, all_that_was_counted_is_there);
  tcase_add_test(all, the_newest_files_are_kept);
  tcase_add_test(all, close_waits_for_the_write_under_way);
  return unit_main_forked("core/event/writer on disk", &all, 1);
}
