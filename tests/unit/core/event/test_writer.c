/* The writer on a disk made of memory, whose every answer the test chooses: this file has its own io_... functions, so the real ones are not linked. */
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/event/writer.h"
#include "tests/lib/json.h"

#define FILES 64
#define KIND 7

struct io {
  struct {
    char name[64];
    bool exists, open;
    uint8_t *bytes;
    size_t len;
  } file[FILES];
  int files;
  uint64_t wall_ms;
  int open_error, truncate_error, list_error, write_now_error, make_error;
  int64_t write_error; /* of the next completion */
  size_t write_torn;   /* bytes that reach the file all the same */
  int opens, removes;
  const struct io_slice *slice; /* under way */
  io_file write_file;
  uint64_t write_token;
  struct io_completion completion[2];
};

static int find(struct io *io, const char *path) {
  ck_assert(strncmp(path, "/events/", 8) == 0);
  for (int i = 0; i < io->files; i++)
    if (io->file[i].exists && strcmp(io->file[i].name, path + 8) == 0) return i;
  return -1;
}

static void append(struct io *io, io_file file, const void *at, size_t len) {
  io->file[file].bytes = realloc(io->file[file].bytes, io->file[file].len + len + 1);
  memcpy(io->file[file].bytes + io->file[file].len, at, len);
  io->file[file].len += len;
}

int io_directory_make(struct io *io, const char *path) {
  ck_assert_str_eq(path, "/events");
  return io->make_error;
}
int io_directory_list(struct io *io, const char *path, void (*each)(void *context, const char *name), void *context) {
  ck_assert_str_eq(path, "/events");
  for (int i = io->files - 1; i >= 0; i--)
    if (io->file[i].exists) each(context, io->file[i].name);
  return io->list_error;
}
int io_file_open(struct io *io, const char *path, unsigned flags, io_file *file) {
  ck_assert_uint_eq(flags, IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_EXCLUSIVE | IO_FILE_APPEND);
  io->opens++;
  if (io->open_error != 0) return io->open_error;
  if (find(io, path) >= 0) return E_EXISTS;
  ck_assert_int_lt(io->files, FILES);
  *file = io->files++;
  snprintf(io->file[*file].name, sizeof io->file[*file].name, "%s", path + 8);
  io->file[*file].exists = io->file[*file].open = true;
  return E_OK;
}
void io_file_close(struct io *io, io_file file) {
  ck_assert(io->file[file].open);
  ck_assert(io->slice == NULL || io->write_file != file);
  io->file[file].open = false;
}
int io_file_truncate(struct io *io, io_file file, uint64_t size_bytes) {
  ck_assert(io->file[file].open);
  if (io->truncate_error == 0) io->file[file].len = size_bytes;
  return io->truncate_error;
}
int io_file_remove(struct io *io, const char *path) {
  int i = find(io, path);
  if (i < 0) return E_NOT_FOUND;
  io->file[i].exists = false;
  io->removes++;
  return E_OK;
}
int io_file_write_now(struct io *io, io_file file, const void *at, size_t len, uint64_t offset) {
  ck_assert(io->file[file].open);
  ck_assert_uint_eq(offset, io->file[file].len);
  append(io, file, at, io->write_now_error == 0 ? len : len / 2);
  return io->write_now_error;
}
void io_write(struct io *io, io_file file, const struct io_slice *slices, unsigned count, uint64_t offset, unsigned flags, uint64_t token) {
  ck_assert_ptr_null(io->slice);
  ck_assert(io->file[file].open);
  ck_assert_uint_eq(count, 1);
  ck_assert_uint_eq(flags, 0);
  ck_assert_uint_eq(offset, io->file[file].len);
  io->slice = slices;
  io->write_file = file;
  io->write_token = token;
}
uint64_t io_wall_ms(struct io *io) { return io->wall_ms; }

/* The write under way ends: whole, or as the test said. */
static void finish(struct io *io, struct io_completion *completion) {
  ck_assert_ptr_nonnull(io->slice);
  *completion = (struct io_completion){.token = io->write_token, .result = io->write_error != 0 ? io->write_error : (int64_t)io->slice->len};
  append(io, io->write_file, io->slice->at, io->write_error != 0 ? io->write_torn : io->slice->len);
  io->slice = NULL;
}
unsigned io_wait(struct io *io, uint64_t until_ns, const struct io_completion **done) {
  ck_assert_uint_eq(until_ns, UINT64_MAX);
  io->completion[0] = (struct io_completion){.token = 99};
  finish(io, &io->completion[1]);
  *done = io->completion;
  return 2;
}

/* ---- a writer with its disk ---- */

static struct io disk;
static struct counters counters;
static struct event_writer *writer;
static struct event_writer_options options;

static void set_up(void) {
  memset(&disk, 0, sizeof disk);
  memset(&counters, 0, sizeof counters);
  disk.wall_ms = 1764000000123;
  options = (struct event_writer_options){.path = "/events", .shard = 3, .file_size_bytes = 1 << 20, .counters = &counters};
}
static void tear_down(void) {
  for (int i = 0; i < disk.files; i++) free(disk.file[i].bytes);
}

static void open_writer(void) {
  char room[100];
  struct fmt why = fmt_over(room, sizeof room);
  ck_assert_int_eq(event_writer_open(&writer, &disk, &options, KIND, &why), E_OK);
}

static void complete(void) {
  struct io_completion completion;
  finish(&disk, &completion);
  event_writer_complete(writer, &completion);
}

static void write_events(unsigned count) {
  for (unsigned i = 0; i < count; i++) event_write(writer, &(struct event){.type = EVENT_DELIVERY, .id = 1 + i, .recipient = SPAN("b@example.org")});
}
static size_t line_size(void) {
  uint8_t room[512];
  struct fmt out = fmt_over(room, sizeof room);
  event_format(&(struct event){.type = EVENT_DELIVERY, .id = 1, .recipient = SPAN("b@example.org")}, &out);
  return out.len;
}

/* Whole lines of JSON only; returns how many in all files that exist. */
static unsigned lines_on_disk(void) {
  unsigned lines = 0;
  for (int i = 0; i < disk.files; i++) {
    if (!disk.file[i].exists) continue;
    struct span rest = span_of(disk.file[i].bytes, disk.file[i].len);
    for (ptrdiff_t end; rest.len > 0; rest = span_skip(rest, (size_t)end + 1), lines++) {
      end = span_find(rest, '\n');
      ck_assert_int_ge(end, 0);
      ck_assert(json_is_object(span_first(rest, (size_t)end)));
    }
  }
  return lines;
}
static uint64_t lost(void) { return count_get(&counters, COUNT_EVENTS_LOST); }

START_TEST(file_is_named_by_shard_and_time) {
  open_writer();
  ck_assert_str_eq(disk.file[0].name, "ringpost-3-1764000000123.jsonl");
  write_events(1);
  event_writer_close(writer);
  ck_assert(!disk.file[0].open && disk.file[0].exists);
  ck_assert_uint_eq(lines_on_disk(), 1);
}
END_TEST

START_TEST(an_empty_file_is_not_left_behind) {
  open_writer();
  event_writer_close(writer);
  ck_assert(!disk.file[0].open && !disk.file[0].exists);
  event_writer_close(NULL);
}
END_TEST

START_TEST(waits_for_company_but_not_long) {
  open_writer();
  ck_assert_uint_eq(event_writer_due_ms(writer), UINT64_MAX);
  event_writer_turn(writer, 1000, false);
  write_events(1);
  ck_assert_uint_eq(event_writer_due_ms(writer), 0);
  event_writer_turn(writer, 1007, false);
  ck_assert_uint_eq(event_writer_due_ms(writer), 1007 + EVENT_FLUSH_MS);
  write_events(1);
  event_writer_turn(writer, 1006 + EVENT_FLUSH_MS, false);
  ck_assert_ptr_null(disk.slice);
  event_writer_turn(writer, 1007 + EVENT_FLUSH_MS, false);
  ck_assert_uint_eq(disk.write_token, (uint64_t)KIND << 56);
  ck_assert_uint_eq(event_writer_due_ms(writer), 1007 + EVENT_STALL_MS);
  write_events(1); /* the next one begins anew */
  event_writer_turn(writer, 2000, false);
  complete();
  ck_assert_uint_eq(event_writer_due_ms(writer), 2000 + EVENT_FLUSH_MS);
  ck_assert_uint_eq(lines_on_disk(), 2);
  event_writer_close(writer);
  ck_assert_uint_eq(lines_on_disk(), 3);
  ck_assert_uint_eq(count_get(&counters, COUNT_EVENTS), 3);
  ck_assert_uint_eq(lost(), 0);
}
END_TEST

START_TEST(a_line_is_settled_when_it_is_written) {
  open_writer();
  ck_assert_uint_eq(event_writer_settled(writer), event_writer_gathered(writer));
  write_events(3);
  uint64_t three = event_writer_gathered(writer);
  event_writer_turn(writer, 1000, true);
  write_events(2);
  uint64_t five = event_writer_gathered(writer);
  ck_assert(three < five && event_writer_settled(writer) < three);
  complete();
  ck_assert_uint_eq(event_writer_settled(writer), three);
  event_writer_turn(writer, 1001, true);
  ck_assert_uint_eq(event_writer_settled(writer), three);
  complete();
  ck_assert_uint_eq(event_writer_settled(writer), five);
  event_writer_close(writer);
}
END_TEST

START_TEST(a_line_that_is_lost_is_settled) {
  open_writer();
  write_events(3);
  event_writer_turn(writer, 1000, true);
  disk.write_error = E_IO;
  disk.truncate_error = E_IO;
  complete();
  ck_assert_uint_eq(lost(), 3);
  ck_assert_uint_eq(event_writer_settled(writer), event_writer_gathered(writer));
  event_writer_close(writer);
}
END_TEST

/* Its write does not end: after a second what waits is settled all the same, and what came later a second after that. */
START_TEST(a_disk_that_stalls_keeps_nobody_waiting) {
  open_writer();
  write_events(1);
  event_writer_turn(writer, 1000, false);
  uint64_t one = event_writer_gathered(writer);
  event_writer_turn(writer, 1000 + EVENT_FLUSH_MS, false);
  ck_assert_ptr_nonnull(disk.slice);
  ck_assert_uint_eq(event_writer_due_ms(writer), 1000 + EVENT_STALL_MS);
  write_events(1);
  uint64_t two = event_writer_gathered(writer);
  event_writer_turn(writer, 1000 + EVENT_STALL_MS - 1, false);
  ck_assert_uint_lt(event_writer_settled(writer), one);
  event_writer_turn(writer, 1000 + EVENT_STALL_MS, false);
  ck_assert(event_writer_settled(writer) >= one && event_writer_settled(writer) < two);
  ck_assert_uint_eq(event_writer_due_ms(writer), 1000 + 2 * EVENT_STALL_MS);
  event_writer_turn(writer, 1000 + 2 * EVENT_STALL_MS, false);
  ck_assert_uint_eq(event_writer_settled(writer), two);
  ck_assert_uint_eq(event_writer_due_ms(writer), UINT64_MAX);
  event_writer_close(writer);
  ck_assert_uint_eq(lines_on_disk(), 2);
}
END_TEST

START_TEST(enough_bytes_go_at_once) {
  open_writer();
  unsigned enough = (unsigned)(EVENT_FLUSH_BYTES / line_size()) + 1;
  write_events(enough - 1);
  event_writer_turn(writer, 1, false);
  ck_assert_ptr_null(disk.slice);
  write_events(1);
  event_writer_turn(writer, 1, false);
  ck_assert_ptr_nonnull(disk.slice);
  ck_assert(!event_writer_idle(writer));
  complete();
  ck_assert(event_writer_idle(writer));
  event_writer_close(writer);
}
END_TEST

START_TEST(now_means_now) {
  open_writer();
  write_events(1);
  ck_assert(!event_writer_idle(writer));
  event_writer_turn(writer, 5, true);
  ck_assert_ptr_nonnull(disk.slice);
  write_events(1);
  event_writer_turn(writer, 5, true); /* one write at a time */
  event_writer_close(writer);         /* waits for it, then writes the rest */
  ck_assert_uint_eq(lines_on_disk(), 2);
}
END_TEST

START_TEST(a_file_is_not_larger_than_said) {
  options.file_size_bytes = 4 * line_size();
  open_writer();
  for (unsigned i = 0; i < 9; i++) {
    write_events(i == 8 ? 7 : 2);
    event_writer_turn(writer, i, true);
    complete();
  }
  event_writer_close(writer);
  ck_assert_int_eq(disk.files, 5);
  for (int i = 0; i < 4; i++) ck_assert_uint_eq(disk.file[i].len, 4 * line_size());
  ck_assert_uint_eq(disk.file[4].len, 7 * line_size()); /* more than that was gathered before the disk was ready */
  for (int i = 1; i < 5; i++) ck_assert_int_lt(strcmp(disk.file[i - 1].name, disk.file[i].name), 0); /* within one millisecond of the clock */
  ck_assert_uint_eq(lines_on_disk(), 8 * 2 + 7);
}
END_TEST

static void put_file(const char *name) {
  disk.file[disk.files].exists = true;
  snprintf(disk.file[disk.files++].name, sizeof disk.file[0].name, "%s", name);
}

START_TEST(oldest_files_of_the_shard_are_removed) {
  const char *others[] = {
      "ringpost-4-1000000000000.jsonl",  "ringpost-3-1000000000000.json",        "ringpost-3-x.jsonl", "ringpost-3-999.jsonl",
      "ringpost-33-1000000000000.jsonl", "ringpost-3-1000000000000000000.jsonl", "ringpost-3.jsonl",   "xringpost-3-1000000000000.jsonl",
      "ringpost--1000000000000.jsonl"};
  for (unsigned i = 0; i < 9; i++) put_file(others[i]);
  for (unsigned i = 0; i < 40; i++) {
    char name[64];
    snprintf(name, sizeof name, "ringpost-3-15000000%05u.jsonl", i * 7919 % 40);
    put_file(name);
  }
  options.files_max = 3;
  open_writer();
  ck_assert_int_eq(disk.removes, 38);
  for (int i = 0; i < 9; i++) ck_assert(disk.file[i].exists);
  ck_assert_int_ge(find(&disk, "/events/ringpost-3-1500000000038.jsonl"), 0);
  ck_assert_int_ge(find(&disk, "/events/ringpost-3-1500000000039.jsonl"), 0);
  ck_assert_int_eq(find(&disk, "/events/ringpost-3-1500000000037.jsonl"), -1);
  write_events(1);
  event_writer_close(writer);
}
END_TEST

START_TEST(a_new_name_sorts_behind_the_old_ones_when_the_clock_went_back) {
  put_file("ringpost-3-1764000009999.jsonl");
  open_writer();
  ck_assert_str_eq(disk.file[1].name, "ringpost-3-1764000010000.jsonl");
  event_writer_close(writer);
}
END_TEST

START_TEST(a_failed_write_is_repeated_in_a_new_file) {
  open_writer();
  write_events(1);
  event_writer_turn(writer, 1000, true);
  complete();
  write_events(2);
  event_writer_turn(writer, 1000, true);
  disk.write_error = E_NO_SPACE;
  disk.write_torn = line_size() + 10;
  complete();
  ck_assert_uint_eq(lines_on_disk(), 1); /* what had reached the file is cut off */
  write_events(1);
  ck_assert_uint_eq(event_writer_due_ms(writer), 1000 + EVENT_RETRY_MS);
  event_writer_turn(writer, 999 + EVENT_RETRY_MS, true);
  ck_assert_ptr_null(disk.slice);
  event_writer_turn(writer, 1000 + EVENT_RETRY_MS, false);
  complete(); /* fails again: this file got nothing and goes */
  ck_assert(!disk.file[1].exists);
  disk.write_error = 0;
  event_writer_turn(writer, 9000, false);
  complete();
  event_writer_turn(writer, 9000, true);
  complete();
  event_writer_close(writer);
  ck_assert_uint_eq(lines_on_disk(), 4);
  ck_assert_uint_eq(disk.file[0].len, line_size());
  ck_assert_uint_eq(lost(), 0);
}
END_TEST

START_TEST(a_short_write_is_a_failed_one) {
  open_writer();
  write_events(3);
  event_writer_turn(writer, 1, true);
  disk.write_error = (int64_t)line_size() + 1;
  disk.write_torn = line_size() + 1;
  complete();
  ck_assert_uint_eq(lines_on_disk(), 0);
  disk.write_error = 0;
  event_writer_turn(writer, 5000, false);
  complete();
  event_writer_close(writer);
  ck_assert_uint_eq(lines_on_disk(), 3);
}
END_TEST

START_TEST(lines_nobody_can_tell_the_fate_of_are_lost) {
  open_writer();
  write_events(3);
  event_writer_turn(writer, 1, true);
  disk.write_error = E_IO;
  disk.truncate_error = E_IO;
  complete();
  ck_assert_uint_eq(lost(), 3);
  ck_assert(event_writer_idle(writer));
  event_writer_close(writer);
}
END_TEST

START_TEST(without_a_file_lines_wait_then_are_dropped) {
  open_writer();
  write_events(1);
  event_writer_turn(writer, 1, true);
  disk.write_error = E_IO;
  complete();
  disk.write_error = 0;
  disk.open_error = E_TOO_MANY_FILES;
  int opens = disk.opens;
  for (uint64_t now_ms = 2; now_ms <= 3500; now_ms++) event_writer_turn(writer, now_ms, true);
  ck_assert_int_eq(disk.opens, opens + 3); /* once a second */
  unsigned many = (unsigned)((24u << 20) / line_size());
  write_events(many);
  uint64_t dropped = lost();
  ck_assert_uint_gt(dropped, many / 3);
  disk.open_error = 0;
  event_writer_turn(writer, 9000, false);
  complete();
  event_writer_turn(writer, 9000, false);
  complete();
  write_events(1);
  event_writer_close(writer);
  ck_assert_uint_eq(lines_on_disk() + dropped, many + 2);
}
END_TEST

START_TEST(a_disk_that_does_not_keep_up_drops_lines) {
  open_writer();
  unsigned many = (unsigned)((20u << 20) / line_size());
  write_events(many); /* the first buffer is sent off as soon as it is full */
  ck_assert_ptr_nonnull(disk.slice);
  ck_assert_uint_gt(lost(), 0);
  complete();
  event_writer_turn(writer, 1, false);
  complete();
  event_writer_close(writer);
  ck_assert_uint_eq(lines_on_disk() + lost(), many);
}
END_TEST

START_TEST(recipients_beyond_a_line_go_into_several) {
  static struct span more[2000];
  static char text[2000][200];
  for (unsigned i = 0; i < 2000; i++) more[i] = span_of(text[i], (size_t)snprintf(text[i], sizeof text[i], "%0150u@example.org", i));
  open_writer();
  event_write(writer,
              &(struct event){
                  .type = EVENT_RECEPTION, .id = 5, .recipient = SPAN("first@example.org"), .more_recipients = more, .more_recipients_count = 2000});
  event_writer_close(writer);
  unsigned lines = lines_on_disk();
  ck_assert_uint_ge(lines, 6);
  ck_assert_uint_le(lines, 9);
  const char *at = (const char *)disk.file[0].bytes; /* all there, in order */
  disk.file[0].bytes[disk.file[0].len] = '\0';
  ck_assert_ptr_nonnull(at = strstr(at, "\"first@example.org\""));
  for (unsigned i = 0; i < 2000; i++) ck_assert_ptr_nonnull(at = strstr(at, text[i]));
  ck_assert_uint_eq(lost(), 0);
}
END_TEST

START_TEST(without_a_path_events_are_only_counted) {
  options.path = NULL;
  open_writer();
  write_events(5);
  event_writer_turn(writer, 1, true);
  ck_assert_uint_eq(event_writer_due_ms(writer), UINT64_MAX);
  ck_assert(event_writer_idle(writer));
  event_writer_close(writer);
  ck_assert_int_eq(disk.opens, 0);
  ck_assert_uint_eq(count_get(&counters, COUNT_EVENTS), 5);
  ck_assert_uint_eq(lost(), 0);
}
END_TEST

START_TEST(open_says_why_not) {
  char room[100];
  int *causes[] = {&disk.make_error, &disk.list_error, &disk.open_error};
  for (unsigned i = 0; i < 3; i++) {
    struct fmt why = fmt_over(room, sizeof room);
    *causes[i] = E_PERMISSION;
    ck_assert_int_eq(event_writer_open(&writer, &disk, &options, KIND, &why), E_PERMISSION);
    ck_assert(span_equal(fmt_span(&why), SPAN("events.path /events: permission denied")));
    *causes[i] = 0;
  }
}
END_TEST

START_TEST(close_counts_what_it_cannot_write) {
  open_writer();
  write_events(2);
  disk.write_now_error = E_IO;
  event_writer_close(writer);
  ck_assert_uint_eq(lost(), 2);
  ck_assert_uint_eq(lines_on_disk(), 0);
}
END_TEST

int main(void) {
  TCase *flow = tcase_create("flow"), *files = tcase_create("files"), *faults = tcase_create("faults");
  TCase *cases[] = {flow, files, faults};
  for (unsigned i = 0; i < 3; i++) tcase_add_checked_fixture(cases[i], set_up, tear_down);
  tcase_add_test(flow, waits_for_company_but_not_long);
  tcase_add_test(flow, a_line_is_settled_when_it_is_written);
  tcase_add_test(flow, a_line_that_is_lost_is_settled);
  tcase_add_test(flow, a_disk_that_stalls_keeps_nobody_waiting);
  tcase_add_test(flow, enough_bytes_go_at_once);
  tcase_add_test(flow, now_means_now);
  tcase_add_test(flow, recipients_beyond_a_line_go_into_several);
  tcase_add_test(flow, without_a_path_events_are_only_counted);
  tcase_add_test(files, file_is_named_by_shard_and_time);
  tcase_add_test(files, an_empty_file_is_not_left_behind);
  tcase_add_test(files, a_file_is_not_larger_than_said);
  tcase_add_test(files, oldest_files_of_the_shard_are_removed);
  tcase_add_test(files, a_new_name_sorts_behind_the_old_ones_when_the_clock_went_back);
  tcase_add_test(faults, a_failed_write_is_repeated_in_a_new_file);
  tcase_add_test(faults, a_short_write_is_a_failed_one);
  tcase_add_test(faults, lines_nobody_can_tell_the_fate_of_are_lost);
  tcase_add_test(faults, without_a_file_lines_wait_then_are_dropped);
  tcase_add_test(faults, a_disk_that_does_not_keep_up_drops_lines);
  tcase_add_test(faults, open_says_why_not);
  tcase_add_test(faults, close_counts_what_it_cannot_write);
  return unit_main("core/event/writer", cases, 3);
}
