/*
 * The schedule on the real log, on a disk in memory that can be full or lose its power, and a ledger of what the schedule was told, to be held against what it knows later.
 * Included by the test programs about what is moved; they say open_world() and close_world() around each test.
 */
#include "queue/restore.h"
#include "queue/schedule.h"

#include "tests/unit/queue/fake_slab.c"
#include "tests/unit/queue/spool/fake_disk.c"

#include "tests/lib/unit.h"

#define START_WALL_MS 1000000
#define KIND 7
#define SEGMENT_BYTES (64u << 10)
#define IDS 4096
#define RECIPIENTS 4
#define ATTEMPTS 128
#define SENDS 64
#define DUE_MAX 16384
#define WISHES 4
#define MEMORY (64u << 20)
#define MEMORY_SCARCE 40000 /* at a start: some of the messages fit, or none */

/* As ck_assert_msg, but Check hears only of what fails: it takes notes of every assertion, and there are millions. */
#define hold(cond, ...) ((cond) ? (void)0 : ck_abort_msg(__VA_ARGS__))

static struct slab slab;
static struct io *disk;
static struct spool_options options;
static struct spool *spool;
static struct shard shard;
static struct counters counters;
static struct schedule schedule;
static unsigned refused;
static uint64_t told; /* position of outcomes that will be released next */

/* ---- the ledger ---- */

struct kept {
  bool done, done_safe;
  bool unsure; /* it is gone, but no outcome of it need be on disk */
  uint16_t attempts, attempts_safe;
  uint16_t attempts_noted;   /* a full spool takes no deferrals */
  uint64_t done_at;          /* position of its outcome */
  uint64_t due_ms[ATTEMPTS]; /* by the number of attempts */
};

struct known {
  bool accepted, safe;
  unsigned recipients;
  uint32_t content, parts;
  struct kept kept[RECIPIENTS];
};

static struct known known[IDS];
static uint64_t ids;

static uint64_t chance;
static uint32_t any(uint32_t below) {
  chance = chance * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(chance >> 33) % below;
}

/* ---- what is due ---- */

struct due {
  struct message *message;
  unsigned recipient;
};
static struct due due[DUE_MAX];
static unsigned due_count;

static void when_due(void *context, struct message *message, unsigned recipient) {
  must(context == &schedule && due_count < DUE_MAX);
  due[due_count++] = (struct due){message, recipient};
  schedule_job_began(message);
}

static struct kept *kept_of_id(uint64_t id, uint16_t index) { return &known[id].kept[index]; }
static struct kept *kept_of(const struct due *entry) { return kept_of_id(entry->message->id, entry->message->recipient[entry->recipient].index); }

static void answer_done(unsigned at) {
  struct due entry = due[at];
  due[at] = due[--due_count];
  struct kept *kept = kept_of(&entry);
  kept->done = true;
  schedule_done(&schedule, entry.message, entry.recipient, RECORD_DELIVERED);
  kept->done_at = spool_outcomes(spool);
  schedule_job_ended(&schedule, entry.message);
}

static void answer_defer(unsigned at, uint64_t delay_ms) {
  struct due entry = due[at];
  struct kept *kept = kept_of(&entry);
  due[at] = due[--due_count];
  kept->due_ms[++kept->attempts] = shard.wall_ms + delay_ms;
  if (!spool_full(spool)) kept->attempts_noted = kept->attempts;
  schedule_defer(&schedule, entry.message, entry.recipient, shard.wall_ms + delay_ms, true);
  schedule_job_ended(&schedule, entry.message);
}

/* ---- sending ---- */

struct sending {
  struct spool_entry entry;
  uint64_t id;
  struct content *content; /* NULL: not in use */
  uint32_t part;
  struct spool_place parts[4];
};
static struct sending sendings[SENDS];

static uint8_t pattern(uint64_t id, uint32_t part, uint64_t at) { return (uint8_t)(id * 7 + part * 3 + at * 31 + (at >> 8)); }

/* Part number `part`, or the message record. */
static struct content *make_record(uint64_t id, uint32_t part) {
  const struct known *k = &known[id];
  static const uint8_t header[RECORD_HEADER_SIZE];
  static uint8_t bytes[65536];
  uint8_t room[512];
  struct content *content = content_new(&slab, k->content + 1000);
  struct record_envelope envelope = {.sender = SPAN("s@example.org"), .created_ms = START_WALL_MS, .recipients = k->recipients};
  struct fmt out = fmt_over(room, sizeof room);
  record_envelope_encode(&envelope, &out);
  bool whole = content_append(&slab, content, span_of(header, sizeof header)) && content_append(&slab, content, fmt_span(&out));
  for (uint32_t i = 0; i < k->recipients; i++) {
    out = fmt_over(room, sizeof room);
    record_recipient_encode(&(struct record_recipient){.address = SPAN("r@example.net"), .index = (uint16_t)i}, &out);
    whole &= content_append(&slab, content, fmt_span(&out));
  }
  content_end_head(content);
  for (uint32_t at = 0; at < k->content; at++) bytes[at] = pattern(id, part, at);
  must(content_append(&slab, content, span_of(bytes, k->content)) && whole);
  struct record_header encoded = {.type = part < k->parts ? RECORD_PART : RECORD_MESSAGE,
                                  .length = content_pad(content, spool_padding(spool)),
                                  .envelope_size = content->head_size - RECORD_HEADER_SIZE,
                                  .content_size = k->content,
                                  .parts = part < k->parts ? part : k->parts,
                                  .id = id};
  record_header_encode(&encoded, content->slice[0].at);
  return content;
}

static void sent(struct spool_entry *entry, int error);

static void send_record(struct sending *sending, uint32_t part) {
  sending->part = part;
  sending->content = make_record(sending->id, part);
  sending->entry = (struct spool_entry){.slices = sending->content->slice,
                                        .slices_count = sending->content->chunks,
                                        .store = part < known[sending->id].parts || known[sending->id].parts > 0,
                                        .durable = sent};
  spool_append(spool, &sending->entry);
}

static void accept_message(struct sending *sending) {
  struct content *content = sending->content;
  struct known *k = &known[sending->id];
  struct message *message =
      message_new(&slab, sending->id, span_of((uint8_t *)content->slice[0].at + RECORD_HEADER_SIZE, content->head_size - RECORD_HEADER_SIZE));
  must(message != NULL);
  message->content = content;
  message->place = sending->entry.place;
  message->size = k->content * (k->parts + 1);
  message->parts_count = k->parts;
  if (k->parts > 0) message->parts = malloc(sizeof sending->parts);
  if (k->parts > 0) memcpy(message->parts, sending->parts, sizeof sending->parts);
  k->accepted = true;
  k->safe = options.durability == SPOOL_SYNC;
  sending->content = NULL;
  schedule_add(&schedule, message);
}

static void sent(struct spool_entry *entry, int error) {
  struct sending *sending = (struct sending *)entry;
  uint64_t left = fake_slab_requests_left;
  fake_slab_requests_left = UINT64_MAX; /* it is the mover that is to be short of memory */
  if (error != E_OK) {
    hold(error == E_NO_SPACE, "error %d", error);
    refused++;
    content_free(&slab, sending->content);
    sending->content = NULL;
    for (uint32_t i = 0; i < sending->part; i++) spool_forget(spool, sending->parts[i]);
  } else if (sending->part < known[sending->id].parts) {
    content_free(&slab, sending->content);
    sending->parts[sending->part] = entry->place;
    send_record(sending, sending->part + 1);
  } else {
    accept_message(sending);
  }
  fake_slab_requests_left = left;
}

static uint64_t send(unsigned recipients, uint32_t content, uint32_t parts) {
  struct sending *sending = NULL;
  for (unsigned i = 0; i < SENDS; i++)
    if (sendings[i].content == NULL) sending = &sendings[i];
  must(sending != NULL && ids + 1 < IDS);
  known[++ids] = (struct known){.recipients = recipients, .content = content, .parts = parts};
  *sending = (struct sending){.id = ids};
  send_record(sending, 0);
  return ids;
}

/* ---- reading ---- */

struct wish {
  struct load load;
  bool under_way, told;
};
static struct wish wishes[WISHES];

static void check_content(const struct content *content, uint64_t id, uint32_t part) {
  struct io_slice slices[CONTENT_CHUNKS_MAX];
  unsigned count = content_slices(content, slices);
  uint64_t at = 0;
  for (unsigned i = 0; i < count; i++)
    for (size_t j = 0; j < slices[i].len; j++, at++) hold(((uint8_t *)slices[i].at)[j] == pattern(id, part, at), "content of %lu", (unsigned long)id);
  hold(at == known[id].content, "content of %lu is %lu bytes", (unsigned long)id, (unsigned long)at);
}

static void wish_done(struct load *load, int error) {
  struct wish *wish = load->context;
  struct message *message = load->message;
  bool own = load->part >= message->parts_count;
  hold(error == E_OK || error == E_NO_MEMORY, "message %lu cannot be read: %d", (unsigned long)message->id, error);
  if (error == E_OK) check_content(own ? message->content : load->content, message->id, load->part);
  if (!own) content_free(&slab, load->content);
  load->content = NULL;
  wish->told = true;
}

/* A job that looks at some record of the message. */
static void begin_wish(struct wish *wish, struct message *message) {
  *wish = (struct wish){.load = {.message = message, .part = any(message->parts_count + 1), .done = wish_done, .context = wish}, .under_way = true};
  schedule_job_began(message);
  schedule_load(&schedule, &wish->load);
}

static void end_wishes(void) {
  for (unsigned i = 0; i < WISHES; i++) {
    if (!wishes[i].under_way || !wishes[i].told) continue;
    wishes[i].under_way = false;
    schedule_job_ended(&schedule, wishes[i].load.message);
  }
}

/* ---- the world ---- */

static void set_clock(uint64_t now_ms) {
  shard.now_ms = now_ms;
  shard.now_ns = now_ms * 1000000;
  shard.wall_ms = START_WALL_MS + now_ms;
}

/* The events that tell of the outcomes until now are being written. */
static void release_some(void) {
  spool_release_outcomes(spool, told);
  told = spool_outcomes(spool);
}

static void turn(void) {
  const struct io_completion *done;
  unsigned count = io_wait(disk, 0, &done);
  for (unsigned i = 0; i < count; i++) spool_complete(spool, &done[i]);
  set_clock(shard.now_ms + 1);
  wheel_advance(&shard.wheel, shard.now_ms, NULL, 1000);
  if (options.hold_outcomes && any(8) == 0) release_some();
  spool_turn(spool, shard.now_ms);
}

static void settle(void) {
  for (unsigned i = 0; i < 20000 && !(spool_idle(spool) && schedule.mover.moves == 0); i++) turn();
  must(spool_idle(spool));
}

static void open_all(void) {
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room);
  uint64_t newest_id, damaged;
  wheel_init(&shard.wheel, shard.now_ms);
  int error = spool_open(&spool, disk, &shard.wheel, &options, KIND, &why);
  must(error == E_OK);
  schedule_init(&schedule, &shard, &slab, spool, &counters, when_due, &schedule);
  error = restore_schedule(&schedule, &newest_id, &damaged, &why);
  must(error == E_OK && damaged == 0);
}

static void close_all(void) {
  spool_close(spool);
  spool = NULL;
  for (unsigned i = 0; i < WISHES; i++)
    if (wishes[i].under_way) content_free(&slab, wishes[i].load.content);
  memset(wishes, 0, sizeof wishes);
  schedule_fini(&schedule);
  for (unsigned i = 0; i < SENDS; i++) content_free(&slab, sendings[i].content);
  memset(sendings, 0, sizeof sendings);
  due_count = 0;
  told = 0;
  hold(slab.used_bytes == 0, "memory is lost");
  ck_assert_uint_eq(shard.wheel.count, 0);
}

static void crash(bool power) {
  disk->hold = false;
  fake_crash(disk, power);
  close_all();
  fake_revive(disk);
  open_all();
}

static void open_world(void) {
  slab_init(&slab, MEMORY);
  disk = fake_new(1);
  set_clock(500);
  options = (struct spool_options){.path = "/spool/0", .segment_size_bytes = SEGMENT_BYTES};
  memset(known, 0, sizeof known);
  ids = 0;
  refused = 0;
}

static void close_world(void) {
  close_all();
  fake_free(disk);
  slab_fini(&slab);
}
