/*
 * write: makes the spools that the images in tests/golden keep: `write DIR` puts one directory for each into DIR (tests/golden/images.py packs them). Only for a
 * new kind of image: those that are there were written by the format's first version, and are never made anew.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/base/error.h"
#include "queue/spool/log.h"
#include "queue/spool/record.h"

#define KIND 1
#define SEGMENT (64u << 10)
#define CREATED_MS 1795000000000 /* 2026-11-18 */

static struct {
  struct io *io;
  struct wheel wheel;
  struct spool *spool;
  char path[400];
  unsigned told;
  struct spool_place place; /* of the last record */
} w;

static uint64_t id_of(unsigned number) { return (uint64_t)CREATED_MS << 22 | number; }

static void turn(void) {
  const struct io_completion *done;
  uint64_t now_ms = io_now_ns(w.io) / 1000000;
  wheel_advance(&w.wheel, now_ms, NULL, 1000);
  spool_turn(w.spool, now_ms);
  unsigned count = io_wait(w.io, io_now_ns(w.io) + 1000000, &done);
  for (unsigned i = 0; i < count; i++) spool_complete(w.spool, &done[i]);
}

static void told(struct spool_entry *entry, int error) {
  must(error == E_OK);
  w.place = entry->place;
  w.told++;
}

struct to {
  const char *address;
  uint16_t index, attempts;
  uint64_t due_ms;
};

/* What such messages say. */
#define REQUIRED "requires TLS"
#define OPTIONAL "TLS-Required: No"

static void write_record(enum record_type type, uint64_t id, uint32_t parts, const struct to *to, unsigned count, const char *content) {
  static uint8_t room[65536] __attribute__((aligned(4096)));
  memset(room, 0, sizeof room);
  struct fmt envelope = fmt_over(room + RECORD_HEADER_SIZE, 16384);
  if (type == RECORD_MESSAGE) {
    struct record_envelope head = {.sender = SPAN("sender@example.org"),
                                   .peer = SPAN("192.0.2.7"),
                                   .envid = SPAN("QQ314159"),
                                   .created_ms = CREATED_MS + (id & 0xff),
                                   .session = 77,
                                   .leading_dot = strstr(content, "\r\n.") != NULL,
                                   .require_tls = strstr(content, REQUIRED) != NULL,
                                   .tls_optional = strstr(content, OPTIONAL) != NULL,
                                   .recipients = count};
    record_envelope_encode(&head, &envelope);
  }
  for (unsigned i = 0; i < count; i++) {
    struct record_recipient recipient = {
        .address = span_of_text(to[i].address), .orcpt = SPAN("rfc822;x@example.net"), .index = to[i].index, .attempts = to[i].attempts};
    recipient.due_ms = to[i].due_ms;
    record_recipient_encode(&recipient, &envelope);
  }
  size_t size = strlen(content), len = RECORD_HEADER_SIZE + envelope.len + size;
  unsigned padding = spool_padding(w.spool);
  memcpy(room + RECORD_HEADER_SIZE + envelope.len, content, size);
  struct record_header header = {.type = type,
                                 .length = (uint32_t)((len + padding - 1) / padding * padding),
                                 .envelope_size = (uint32_t)envelope.len,
                                 .content_size = (uint32_t)size,
                                 .parts = parts,
                                 .id = id};
  record_header_encode(&header, room);
  struct io_slice slice = {room, header.length};
  struct spool_entry entry = {.slices = &slice, .slices_count = 1, .durable = told};
  w.told = 0;
  spool_append(w.spool, &entry);
  while (w.told == 0) turn();
}

static void write_outcome(enum record_outcome_kind kind, uint64_t id, uint16_t recipient, uint16_t attempts, uint64_t due_ms) {
  uint8_t room[RECORD_OUTCOME_SIZE];
  record_outcome_encode(&(struct record_outcome){.kind = kind, .id = id, .recipient = recipient, .attempts = attempts, .due_ms = due_ms}, room);
  spool_append_outcome(w.spool, span_of(room, sizeof room));
  while (!spool_idle(w.spool)) turn();
}

static void open_spool(const char *directory, const char *name) {
  char room[300];
  struct fmt why = fmt_over(room, sizeof room);
  struct spool_replay nothing = {NULL, NULL, NULL}; /* an empty spool has nothing to hand out */
  uint64_t damaged;
  if (name != NULL) snprintf(w.path, sizeof w.path, "%s/%s/shard-000", directory, name);
  struct spool_options options = {.path = w.path, .segment_size_bytes = SEGMENT};
  wheel_init(&w.wheel, io_now_ns(w.io) / 1000000);
  must(spool_open(&w.spool, w.io, &w.wheel, &options, KIND, &why) == E_OK);
  must(name == NULL || spool_replay(w.spool, &nothing, &damaged, &why) == E_OK);
}

static void ignore_record(void *context, struct span record, struct spool_place place) {
  (void)context;
  (void)record;
  (void)place;
}
static void ignore_outcome(void *context, struct span outcome) {
  (void)context;
  (void)outcome;
}

static void close_spool(void) {
  while (!spool_idle(w.spool)) turn();
  spool_close(w.spool);
}

/* A start: what follows goes into a new segment. */
static void next_segment(void) {
  struct spool_replay replay = {ignore_record, ignore_outcome, NULL};
  uint8_t room[300];
  struct fmt why = fmt_over(room, sizeof room);
  uint64_t damaged;
  close_spool();
  open_spool(NULL, NULL);
  must(spool_replay(w.spool, &replay, &damaged, &why) == E_OK);
}

/* In the segment with this sequence, `len` bytes at `offset` by these; `seals`: and the checksum of the bytes before `seals`. */
static void change(uint32_t sequence, uint64_t offset, const void *bytes, size_t len, uint64_t at, size_t seals) {
  for (unsigned slot = 0; slot < 20; slot++) {
    char path[500];
    uint8_t block[4096];
    uint32_t found;
    snprintf(path, sizeof path, "%s/%08u.seg", w.path, slot);
    int file = open(path, O_RDWR);
    if (file < 0) continue;
    must(pread(file, block, sizeof block, 0) == sizeof block);
    memcpy(&found, block + 12, 4);
    if (found == sequence) {
      must(pwrite(file, bytes, len, (off_t)offset) == (ssize_t)len);
      must(pread(file, block, seals + 8, (off_t)at) == (ssize_t)seals + 8);
      uint64_t checksum = XXH3_64bits(block, seals);
      if (seals > 0) must(pwrite(file, &checksum, 8, (off_t)(at + seals)) == 8);
    }
    close(file);
  }
}

static const char text[] = "Received: from a by b\r\nSubject: golden\r\n\r\n..a line with a dot\r\nand one without.\r\n";
#define ONE(address) (struct to[]){{address, 0, 0, 0}}, 1

static void write_all(const char *directory) {
  static const uint8_t zeros[256], version[] = {2}, noise[] = {0x55, 0xaa};

  open_spool(directory, "clean");
  write_record(RECORD_MESSAGE, id_of(1), 0, ONE("one@d.example"), text);
  write_record(RECORD_MESSAGE, id_of(2), 0, (struct to[]){{"two@d.example", 0, 0, 0}, {"\xc3\xbc@d.example", 1, 0, 0}}, 2, text);
  write_outcome(RECORD_TOLD, 0, 0, 0, 0);
  close_spool();

  open_spool(directory, "required");
  write_record(RECORD_MESSAGE, id_of(1), 0, ONE("one@d.example"), text);
  write_record(RECORD_MESSAGE, id_of(2), 0, ONE("two@d.example"), "Received: from a by b\r\nSubject: " REQUIRED "\r\n\r\nhello\r\n");
  close_spool();

  open_spool(directory, "optional");
  write_record(RECORD_MESSAGE, id_of(1), 0, ONE("one@d.example"), "Received: from a by b\r\n" OPTIONAL "\r\n\r\nhello\r\n");
  close_spool();

  open_spool(directory, "torn");
  write_record(RECORD_MESSAGE, id_of(1), 0, ONE("one@d.example"), text);
  write_record(RECORD_MESSAGE, id_of(2), 0, ONE("torn@d.example"), text);
  struct spool_place last = w.place;
  close_spool();
  change(last.segment, last.offset + 100, zeros, sizeof zeros, 0, 0);

  open_spool(directory, "outcomes");
  write_record(
      RECORD_MESSAGE, id_of(1), 0,
      (struct to[]){{"delivered@d.example", 0, 0, 0}, {"failed@d.example", 1, 0, 0}, {"deferred@d.example", 2, 0, 0}, {"new@d.example", 3, 0, 0}}, 4,
      text);
  write_record(RECORD_MESSAGE, id_of(2), 0, ONE("ended@d.example"), text);
  write_record(RECORD_MESSAGE, id_of(3), 0, (struct to[]){{"before@d.example", 0, 0, 0}, {"moved@d.example", 1, 0, 0}, {"after@d.example", 2, 0, 0}},
               3, text);
  write_outcome(RECORD_DELIVERED, id_of(1), 0, 1, 0);
  write_outcome(RECORD_FAILED, id_of(1), 1, 1, 0);
  write_outcome(RECORD_DEFERRED, id_of(1), 2, 3, CREATED_MS + 60000);
  write_outcome(RECORD_EXPIRED, id_of(2), 0, 9, 0);
  write_outcome(RECORD_DELIVERED, id_of(3), 0, 1, 0);
  next_segment();
  write_record(RECORD_MESSAGE, id_of(3), 0, (struct to[]){{"moved@d.example", 1, 4, CREATED_MS + 70000}, {"after@d.example", 2, 2, 0}}, 2, text);
  write_outcome(RECORD_DEFERRED, id_of(3), 1, 3, CREATED_MS + 50000); /* older than the copy */
  write_outcome(RECORD_DELIVERED, id_of(3), 2, 3, 0);
  close_spool();

  open_spool(directory, "parts");
  write_record(RECORD_PART, id_of(1), 0, NULL, 0, "Received: from a by b\r\nSubject: parts\r\n\r\n..first\r");
  write_record(RECORD_PART, id_of(1), 1, NULL, 0, "\n..second\r\n.");
  write_record(RECORD_MESSAGE, id_of(1), 2, ONE("parts@d.example"), ".third\r\n");
  write_record(RECORD_PART, id_of(2), 0, NULL, 0, "never ended");
  next_segment();
  write_record(RECORD_PART, id_of(1), 0, NULL, 0, "Received: from a by b\r\nSubject: parts\r\n\r\n..first\r"); /* moved */
  close_spool();

  open_spool(directory, "damaged");
  write_record(RECORD_MESSAGE, id_of(1), 0, ONE("one@d.example"), text);
  next_segment();
  write_record(RECORD_MESSAGE, id_of(2), 0, ONE("two@d.example"), text);
  write_record(RECORD_MESSAGE, id_of(3), 0, ONE("lost@d.example"), text);
  last = w.place;
  write_record(RECORD_MESSAGE, id_of(4), 0, ONE("behind@d.example"), text);
  next_segment();
  write_record(RECORD_MESSAGE, id_of(5), 0, ONE("five@d.example"), text);
  close_spool();
  change(last.segment, last.offset + 150, noise, sizeof noise, 0, 0);

  open_spool(directory, "future");
  write_record(RECORD_MESSAGE, id_of(1), 0, ONE("one@d.example"), text);
  next_segment();
  write_record(RECORD_MESSAGE, id_of(2), 0, ONE("two@d.example"), text);
  last = w.place;
  close_spool();
  change(last.segment, 8, version, 1, 0, 504);

  open_spool(directory, "future_record");
  write_record(RECORD_MESSAGE, id_of(1), 0, ONE("one@d.example"), text);
  write_record(RECORD_MESSAGE, id_of(2), 0, ONE("two@d.example"), text);
  last = w.place;
  close_spool();
  change(last.segment, last.offset + 4, version, 1, last.offset, 56);
}

int main(int argc, char **argv) {
  const struct io_options options = {.sockets_max = 1, .receive_buffers = 1, .receive_buffer_size = 4096};
  if (argc != 2) return 2;
  must(io_open(&w.io, &options, NULL) == E_OK);
  write_all(argv[1]);
  io_destroy(w.io);
  return 0;
}
