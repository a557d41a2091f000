/*
 * The spool on a real ring and a real file system: with direct I/O where the tests are built, without it in memory (tmpfs). A child stores messages until it is
 * killed in the middle of it; whatever it said to be durable has to be there.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/error.h"
#include "queue/spool/log.h"
#include "queue/spool/record.h"
#include "tests/lib/unit.h"

#define KIND 9
#define IN_FLIGHT 32
#define IDS 100000
#define SEGMENT (1 << 20)

struct shop {
  struct io *io;
  struct wheel wheel;
  struct spool *spool;
  uint64_t now_ms;
  uint64_t next_id;
  uint32_t length; /* of a record; not a multiple of 4 KiB where that is possible */
  int told;        /* pipe: ids that are durable */
  bool seen[IDS];
  unsigned seen_count;
};

struct sale {
  struct spool_entry entry;
  struct io_slice slice;
  struct shop *shop;
  uint64_t id;
  bool idle;
};

static void tick(struct shop *shop) {
  const struct io_completion *done;
  uint64_t due_ms = wheel_next_ms(&shop->wheel);
  unsigned count = io_wait(shop->io, due_ms == WHEEL_NEVER ? UINT64_MAX : due_ms * 1000000, &done);
  for (unsigned i = 0; i < count; i++) spool_complete(shop->spool, &done[i]);
  shop->now_ms = io_now_ns(shop->io) / 1000000;
  wheel_advance(&shop->wheel, shop->now_ms, NULL, 1000);
  spool_turn(shop->spool, shop->now_ms);
}

static void sold(struct spool_entry *entry, int error) {
  struct sale *sale = (struct sale *)entry;
  must(error == E_OK);
  must(write(sale->shop->told, &sale->id, sizeof sale->id) == (ssize_t)sizeof sale->id);
  if (sale->id % 3 == 0) spool_forget(sale->shop->spool, entry->place); /* says nothing of it: such ids may be there or not */
  sale->idle = true;
}

static void fill_record(struct sale *sale) {
  uint32_t length = sale->shop->length;
  memset(sale->slice.at, (int)(sale->id & 0xff), length);
  struct record_header header = {.type = RECORD_MESSAGE, .length = length, .content_size = length - RECORD_HEADER_SIZE, .id = sale->id};
  record_header_encode(&header, sale->slice.at);
}

static void open_shop(struct shop *shop, const char *path) {
  struct io_options options = {.sockets_max = 8, .receive_buffers = 8, .receive_buffer_size = 4096};
  const char *reason = "";
  int error = io_open(&shop->io, &options, &reason);
  must(error == E_OK);
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room);
  struct spool_options spool = {.path = path, .segment_size_bytes = SEGMENT};
  wheel_init(&shop->wheel, io_now_ns(shop->io) / 1000000);
  error = spool_open(&shop->spool, shop->io, &shop->wheel, &spool, KIND, &why);
  if (error != E_OK) fprintf(stderr, "%.*s\n", (int)why.len, (const char *)room);
  must(error == E_OK);
  shop->length = spool_padding(shop->spool) == 512 ? 5120 : 8192;
}

static void see_record(void *context, struct span record, struct spool_place place) {
  struct shop *shop = context;
  struct record_header header;
  uint64_t hash;
  int error = record_header_decode(&header, record.at, record.len, place.segment, &hash);
  must(error == E_OK && header.id < IDS && record.len == shop->length);
  for (size_t i = RECORD_HEADER_SIZE; i < shop->length; i++) must(record.at[i] == (header.id & 0xff));
  must(!shop->seen[header.id]);
  shop->seen[header.id] = true;
  shop->seen_count++;
}

static void see_outcome(void *context, struct span outcome) {
  (void)context;
  (void)outcome;
}

static void restore(struct shop *shop) {
  struct spool_replay replay = {see_record, see_outcome, shop};
  uint64_t damaged;
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room);
  int error = spool_replay(shop->spool, &replay, &damaged, &why);
  must(error == E_OK && damaged == 0);
}

static void sell_until_killed(const char *path, uint64_t first_id, int told) {
  struct shop *shop = calloc(1, sizeof *shop);
  must(shop != NULL);
  shop->told = told;
  shop->next_id = first_id;
  open_shop(shop, path);
  restore(shop);
  static struct sale sales[IN_FLIGHT];
  for (unsigned i = 0; i < IN_FLIGHT; i++) {
    sales[i] = (struct sale){.shop = shop, .idle = true};
    sales[i].slice = (struct io_slice){aligned_alloc(SPOOL_ALIGNMENT, 8192), shop->length};
    sales[i].entry = (struct spool_entry){.slices = &sales[i].slice, .slices_count = 1, .durable = sold};
  }
  while (shop->next_id < IDS - IN_FLIGHT) {
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
      if (!sales[i].idle) continue;
      sales[i].idle = false;
      sales[i].id = shop->next_id++;
      fill_record(&sales[i]);
      spool_append(shop->spool, &sales[i].entry);
    }
    tick(shop);
  }
  _exit(1);
}

/* Reads what the child says, kills it after so many, and reads the rest. Returns how many there were. */
static unsigned kill_after(int pid, int from, unsigned after, bool *durable, uint64_t *last_id) {
  unsigned count = 0;
  for (uint64_t id; read(from, &id, sizeof id) == (ssize_t)sizeof id;) {
    durable[id] = true;
    if (id > *last_id) *last_id = id;
    if (++count == after) kill(pid, SIGKILL);
  }
  int status;
  waitpid(pid, &status, 0);
  must(WIFSIGNALED(status));
  return count;
}

static void check_kills(const char *parent) {
  char path[256], command[300];
  snprintf(path, sizeof path, "%s/ringpost-spool-XXXXXX", parent);
  ck_assert_ptr_nonnull(mkdtemp(path));
  static bool durable[IDS];
  uint64_t last_id = 0;
  for (unsigned round = 0; round < 4; round++) {
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    int pid = fork();
    if (pid == 0) {
      close(ends[0]);
      sell_until_killed(path, last_id + IN_FLIGHT * 64, ends[1]);
    }
    close(ends[1]);
    unsigned count = kill_after(pid, ends[0], 700 + 333 * round, durable, &last_id);
    close(ends[0]);
    ck_assert_uint_ge(count, 700);
    struct shop *shop = calloc(1, sizeof *shop);
    open_shop(shop, path);
    restore(shop);
    for (uint64_t id = 0; id <= last_id; id++) ck_assert_msg(!durable[id] || id % 3 == 0 || shop->seen[id], "%lu is gone", (unsigned long)id);
    spool_close(shop->spool);
    io_destroy(shop->io);
    free(shop);
  }
  snprintf(command, sizeof command, "rm -r '%s'", path);
  ck_assert_int_eq(system(command), 0);
}

START_TEST(a_killed_process_loses_nothing_it_said_was_durable) { check_kills(_i == 0 ? "build" : "/dev/shm"); }
END_TEST

int main(void) {
  TCase *disk = tcase_create("disk");
  tcase_add_loop_test(disk, a_killed_process_loses_nothing_it_said_was_durable, 0, 2);
  return unit_main_forked("queue/spool/disk", (TCase *[]){disk}, 1);
}
