/*
 * What stays for long is taken to the front of the spool: the schedule on the real log, on a disk in memory that is full, or short of memory, or
 * loses its power at any moment. A ledger of what the schedule was told is held against what it knows after a restart.
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

static struct message *message_of(uint64_t id) {
  for (unsigned i = 0; i < SCHEDULE_LISTS; i++)
    for (struct message *message = schedule.list[i].first; message != NULL; message = message->next)
      if (message->id == id) return message;
  return NULL;
}

static unsigned due_of(uint64_t id) {
  unsigned at = 0;
  while (at < due_count && due[at].message->id != id) at++;
  hold(at < due_count, "message %lu is not due", (unsigned long)id);
  return at;
}

/* Sends, and has all delivered but the recipients of `but`. */
static void stream(unsigned count, uint32_t content, uint64_t but) {
  for (unsigned i = 0; i < count; i++) {
    uint64_t id = send(1, content, 0);
    for (unsigned turns = 0; turns < 100 && !known[id].accepted && refused == 0; turns++) turn();
    ck_assert_uint_eq(refused, 0);
    for (unsigned at = due_count; at-- > 0;)
      if (due[at].message->id != but) answer_done(at);
    ck_assert_uint_le(spool_stats(spool)->disk_bytes, options.disk_max_bytes == 0 ? UINT64_MAX : options.disk_max_bytes);
    if (ids == IDS - 1) ids = but;
  }
}

static uint64_t send_straggler(unsigned recipients, uint32_t content, uint32_t parts) {
  uint64_t id = send(recipients, content, parts);
  for (unsigned turns = 0; turns < 100 && !known[id].accepted; turns++) turn();
  ck_assert(known[id].accepted);
  return id;
}

/* ---- one that waits, and a stream that passes ---- */

static void one_stays(enum spool_durability durability, uint32_t parts) {
  options.disk_max_bytes = (durability == SPOOL_SYNC ? 5 : 12) * SEGMENT_BYTES; /* without a sync a segment is retired later */
  options.durability = durability;
  open_all();
  uint64_t id = send_straggler(3, 6000, parts);
  answer_done(due_of(id));
  answer_defer(due_of(id), 3600 * 1000);
  answer_defer(due_of(id), 3600 * 1000 + 1);
  uint32_t first = message_of(id)->oldest;
  stream(3000, 3000, id);
  settle();
  struct message *message = message_of(id);
  ck_assert_uint_gt(message->oldest, first + 20);
  ck_assert_uint_gt(spool_stats(spool)->copied_forward, 20);
  if (message->content == NULL) ck_assert_uint_eq(message->jobs, 0);
  crash(true);
  ck_assert_uint_eq(schedule.messages, 1);
  message = message_of(id);
  ck_assert_uint_eq(message->live, 2);
  ck_assert_uint_eq(message->size, 6000 * (parts + 1));
  for (unsigned i = 0; i < 2; i++) {
    const struct recipient *recipient = &message->recipient[i];
    const struct kept *kept = &known[id].kept[recipient->index];
    ck_assert(!kept->done);
    ck_assert_uint_eq(recipient->attempts, 1);
    ck_assert_uint_eq(recipient->due_ms, kept->due_ms[1]);
  }
  for (uint32_t part = 0; part <= parts; part++) {
    struct wish *wish = &wishes[0];
    begin_wish(wish, message);
    for (unsigned turns = 0; turns < 100 && !wish->told; turns++) turn();
    ck_assert(wish->told);
    end_wishes();
  }
}

START_TEST(one_that_waits_does_not_keep_the_rest_on_disk) { one_stays(SPOOL_SYNC, 0); }
END_TEST
START_TEST(the_same_without_a_sync_for_each) { one_stays(SPOOL_LAZY, 0); }
END_TEST
START_TEST(the_same_with_a_long_message) { one_stays(SPOOL_SYNC, 3); }
END_TEST

/* A whole segment of them, on a disk with room: after all they lie in one place, and the rest is free. */
START_TEST(many_that_wait_are_moved_a_few_at_a_time) {
  open_all();
  uint64_t most_moves = 0, most_bytes = 0;
  for (unsigned i = 0; i < 300; i++) {
    send(1, 500, 0);
    for (unsigned turns = 0; turns < 3; turns++) turn();
    while (due_count > 0) answer_defer(0, 3600 * 1000);
  }
  settle();
  uint64_t before = slab.used_bytes;
  for (unsigned i = 0; i < 2000 && spool_stats(spool)->copied_forward < 300; i++) {
    stream(1, 3000, 0);
    if (schedule.mover.moves > most_moves) most_moves = schedule.mover.moves;
    if (slab.used_bytes - before > most_bytes) most_bytes = slab.used_bytes - before;
  }
  settle();
  ck_assert_uint_ge(spool_stats(spool)->copied_forward, 300);
  ck_assert_uint_gt(most_moves, 1);
  ck_assert_uint_le(most_moves, 32);
  ck_assert_uint_le(most_bytes, 1 << 20);
  ck_assert_uint_eq(schedule.messages, 300);
  ck_assert_uint_le(spool_stats(spool)->segments, 24);
}
END_TEST

/* ---- what may happen to a message meanwhile ---- */

/* A straggler in an old segment; mover asked by hand. */
static uint64_t old_one(uint32_t content, uint32_t parts) {
  open_all();
  uint64_t id = send_straggler(2, content, parts);
  answer_defer(due_of(id), 1000);
  answer_defer(due_of(id), 1000);
  stream(60, 3000, id);
  settle();
  ck_assert_uint_lt(message_of(id)->oldest, spool_stats(spool)->segments);
  return id;
}

static void ask_for(uint64_t id) {
  schedule.mover.segment = message_of(id)->oldest;
  mover_look(&schedule.mover);
}

static void become_due(uint64_t id) {
  set_clock(shard.now_ms + 1000);
  wheel_advance(&shard.wheel, shard.now_ms, NULL, 1000);
  due_of(id);
}

static void turns_until_moved(uint64_t id, uint32_t from) {
  for (unsigned turns = 0; turns < 3000 && (message_of(id)->oldest == from || schedule.mover.moves > 0); turns++) turn();
  ck_assert_uint_gt(message_of(id)->oldest, from);
}

/* It ends after `steps` turns of its move, whatever stage that is. */
START_TEST(one_that_ends_meanwhile_is_gone) {
  for (unsigned steps = 0; steps < 8; steps++) {
    uint64_t id = old_one(6000, 2);
    ask_for(id);
    become_due(id);
    for (unsigned i = 0; i < steps; i++) turn();
    answer_done(due_of(id));
    answer_done(due_of(id));
    settle();
    ck_assert_ptr_null(message_of(id));
    ck_assert_uint_eq(schedule.mover.moves, 0);
    ck_assert_uint_eq(slab.used_bytes, 0);
    crash(true);
    ck_assert_uint_eq(schedule.messages, 0);
    close_all();
    fake_free(disk);
    disk = fake_new(steps + 2);
  }
  open_all();
}
END_TEST

/* All its recipients have ended; some job has not: it is passed over, and others are moved. */
START_TEST(one_that_has_ended_but_for_a_job_is_passed_over) {
  uint64_t id = old_one(6000, 0);
  struct message *message = message_of(id);
  become_due(id);
  begin_wish(&wishes[0], message);
  for (unsigned turns = 0; turns < 100 && !wishes[0].told; turns++) turn();
  answer_done(due_of(id));
  answer_done(due_of(id));
  ck_assert(message_of(id) == message && message->content != NULL);
  ask_for(id);
  for (unsigned turns = 0; turns < 10; turns++) turn();
  ck_assert_uint_eq(schedule.mover.moves, 0);
  end_wishes();
  ck_assert_uint_eq(schedule.messages, 0);
}
END_TEST

/* The move must not take from under a reader what it reads, nor leave it where nobody forgets it. */
START_TEST(one_that_is_being_read_keeps_its_old_place_so_long) {
  uint64_t id = old_one(30000, 0);
  struct message *message = message_of(id);
  become_due(id);
  begin_wish(&wishes[0], message);
  ask_for(id);
  for (unsigned turns = 0; turns < 100 && !wishes[0].told; turns++) turn();
  end_wishes();
  turns_until_moved(id, 1);
  answer_done(due_of(id));
  answer_done(due_of(id));
  settle();
  ck_assert_uint_eq(slab.used_bytes, 0);
}
END_TEST

START_TEST(without_memory_it_is_tried_again) {
  uint64_t id = old_one(6000, 1);
  uint32_t from = message_of(id)->oldest;
  for (unsigned requests = 0; requests < 6; requests++) {
    fake_slab_requests_left = requests;
    ask_for(id);
    for (unsigned turns = 0; turns < 20 && fake_slab_requests_left > 0; turns++) turn();
    turn();
    turn();
    ck_assert_uint_eq(message_of(id)->oldest, from);
    ck_assert_uint_eq(schedule.mover.moves, 0);
    fake_slab_requests_left = UINT64_MAX;
    set_clock(shard.now_ms + 1000);
  }
  turns_until_moved(id, from); /* nobody had to ask again */
}
END_TEST

START_TEST(without_room_on_disk_it_is_tried_again) {
  uint64_t id = old_one(6000, 0);
  uint32_t from = message_of(id)->oldest;
  disk->fail_write = E_NO_SPACE;
  ask_for(id);
  for (unsigned turns = 0; turns < 30; turns++) turn();
  ck_assert_uint_eq(message_of(id)->oldest, from);
  disk->fail_write = E_OK;
  turns_until_moved(id, from);
}
END_TEST

START_TEST(what_cannot_be_read_is_left_where_it_is) {
  uint64_t id = old_one(6000, 0);
  struct message *message = message_of(id);
  for (unsigned i = 0; i < FAKE_FILES; i++)
    if (disk->files[i].used && disk->files[i].size > message->place.offset + 1000) disk->files[i].now[message->place.offset + 1000] ^= 1;
  ask_for(id);
  for (unsigned turns = 0; turns < 50; turns++) turn();
  ck_assert_uint_eq(schedule.mover.moves, 0);
  ck_assert_uint_eq(schedule.mover.segment, 0);
  ck_assert_uint_eq(message->jobs, 0);
  become_due(id);
  answer_done(due_of(id));
  answer_done(due_of(id));
  settle();
}
END_TEST

START_TEST(a_stop_begins_no_more) {
  uint64_t id = old_one(6000, 0);
  uint32_t from = message_of(id)->oldest;
  ck_assert_uint_eq(schedule_store_all(&schedule), 0);
  ask_for(id);
  for (unsigned turns = 0; turns < 30; turns++) turn();
  ck_assert_uint_eq(message_of(id)->oldest, from);
}
END_TEST

/* ---- any order, and crashes ---- */

static void look_at(struct message *message, bool power) {
  struct known *k = &known[message->id];
  hold(message->id <= ids && message->recipients <= k->recipients, "message %lu was never sent", (unsigned long)message->id);
  for (unsigned i = 0; i < message->recipients; i++) {
    const struct recipient *recipient = &message->recipient[i];
    struct kept *kept = &k->kept[recipient->index];
    if (recipient->state == RECIPIENT_DONE) continue;
    hold(!kept->done_safe, "message %lu recipient %u had ended and is back", (unsigned long)message->id, recipient->index);
    hold(recipient->attempts >= kept->attempts_safe && recipient->attempts <= kept->attempts, "message %lu: %u attempts of %u..%u",
         (unsigned long)message->id, recipient->attempts, kept->attempts_safe, kept->attempts);
    bool untried = recipient->attempts == 0 && recipient->due_ms <= 1; /* 1: moved */
    hold(untried || recipient->due_ms == kept->due_ms[recipient->attempts], "message %lu is due at another time", (unsigned long)message->id);
    kept->attempts = kept->attempts_noted = recipient->attempts;
    if (power) kept->attempts_safe = recipient->attempts;
    kept->done = kept->unsure = false;
  }
}

/*
 * Not there after a crash. Behind a loss of power that is for good. But after a kill what says so may be in the cache alone, and be taken away by a loss of power that
 * follows: then it is back as it was, tries and all. So long as the newest segment is not synced, or, where a full disk freed a segment without the outcomes, at any time.
 */
static void note_gone(struct kept *kept, bool power, bool sound) {
  kept->done = true;
  kept->done_safe |= power;
  kept->unsure = !power && !sound;
  kept->done_at = 0; /* positions begin anew */
}

static bool is_live_in(const struct message *message, unsigned index) {
  for (unsigned i = 0; message != NULL && i < message->recipients; i++)
    if (message->recipient[i].index == index && message->recipient[i].state != RECIPIENT_DONE) return true;
  return false;
}

/* What found no room at the start. */
static void load_rest(void) {
  for (unsigned i = 0; i < 2000 && schedule.unloaded > 0; i++) {
    loader_turn(&schedule.loader, UINT64_MAX);
    turn();
  }
  hold(schedule.unloaded == 0, "%lu messages stay on disk", (unsigned long)schedule.unloaded);
}

/*
 * What was not released must not be there; but on a disk so full that not even outcomes find room a segment goes without them (FORMAT.md), and a
 * write that found no space may be there.
 */
static void crash_and_check(bool power, bool sound) {
  static struct message *found[IDS];
  uint64_t released = spool_outcomes_released(spool);
  slab.limit_bytes = any(2) == 0 ? MEMORY : any(MEMORY_SCARCE);
  crash(power);
  slab.limit_bytes = MEMORY;
  schedule_begin(&schedule);
  load_rest();
  memset(found, 0, sizeof found);
  for (unsigned i = 0; i < SCHEDULE_LISTS; i++)
    for (struct message *message = schedule.list[i].first; message != NULL; message = message->next) found[message->id] = message;
  for (uint64_t id = 1; id <= ids; id++) {
    struct known *k = &known[id];
    bool owed = power ? k->safe : k->accepted; /* what a kill found in the cache was never answered for */
    for (unsigned r = 0; r < k->recipients; r++) {
      bool live = is_live_in(found[id], r);
      hold(!owed || k->kept[r].done || live, "message %lu recipient %u is lost", (unsigned long)id, r);
      bool held = k->kept[r].done && k->kept[r].done_at > released;
      hold(!sound || !owed || !held || live, "message %lu recipient %u: its end was written before it was released", (unsigned long)id, r);
      if (!live) note_gone(&k->kept[r], power, sound);
    }
    if (found[id] != NULL) look_at(found[id], power);
    k->accepted = found[id] != NULL;
    k->safe = found[id] != NULL && (power || k->safe);
  }
}

static void note_safe(void) {
  if (!spool_idle(spool)) return;
  for (uint64_t id = 1; id <= ids; id++) {
    known[id].safe = known[id].accepted;
    for (unsigned r = 0; r < known[id].recipients; r++) {
      known[id].kept[r].done_safe = known[id].kept[r].done && !known[id].kept[r].unsure;
      known[id].kept[r].attempts_safe = known[id].kept[r].attempts_noted;
    }
  }
}

static void any_answer(void) {
  if (due_count == 0) return;
  unsigned at = any(due_count);
  if (any(3) == 0 || kept_of(&due[at])->attempts == ATTEMPTS - 1) {
    answer_done(at);
  } else {
    answer_defer(at, 1 + any(100));
  }
}

static void any_wish(void) {
  end_wishes();
  struct wish *wish = &wishes[any(WISHES)];
  if (!wish->under_way && due_count > 0) begin_wish(wish, due[any(due_count)].message);
}

/* Of the older half, of its own accord: the log asks only when there is much to gain. */
static void any_ask(void) {
  enum schedule_list list = any(2) == 0 ? SCHEDULE_STORED : SCHEDULE_LONG;
  if (schedule.list[list].first == NULL) return;
  uint32_t oldest = schedule.list[list].first->oldest, newest = schedule.list[list].last->oldest;
  if (oldest < newest) schedule.mover.segment = oldest + (newest - oldest) / 2;
  mover_look(&schedule.mover);
}

static unsigned sendings_free(void) {
  unsigned count = 0;
  for (unsigned i = 0; i < SENDS; i++) count += sendings[i].content == NULL;
  return count;
}

static void any_step(bool stalls) {
  switch (any(8)) {
  case 0:
    if (sendings_free() > 0 && ids + 1 < IDS && !spool_full(spool) && schedule.messages < 60)
      send(1 + any(RECIPIENTS), any(6000), any(4) == 0 ? any(4) : 0);
    break;
  case 1:
  case 2: any_answer(); break;
  case 3: any_wish(); break;
  case 4:
    if (any(3) == 0) any_ask();
    break;
  case 5:
    fake_slab_requests_left = any(8) == 0 ? any(6) : UINT64_MAX;
    if (stalls && any(16) == 0) disk->fail_write = E_NO_SPACE;
    if (stalls) disk->fail_write_in = 1 + any(4);
    turn();
    fake_slab_requests_left = UINT64_MAX;
    break;
  default: turn(); break;
  }
  note_safe();
}

static void crash_often(uint64_t seed, enum spool_durability durability, unsigned segments_max, bool stalls) {
  chance = seed;
  disk->random = seed;
  disk->one_at_a_time = seed % 3 == 0 ? 0 : 1 + (unsigned)(seed % 2);
  disk->fail_write_alone = stalls;
  options.durability = durability;
  options.hold_outcomes = seed % 4 != 0;
  options.disk_max_bytes = segments_max * SEGMENT_BYTES;
  open_all();
  for (unsigned i = 0; i < 25; i++) {
    for (unsigned n = any(1200); n > 0; n--) any_step(stalls);
    crash_and_check(any(2) == 0, segments_max == 0 && !stalls);
  }
  for (unsigned i = 0; i < 8000 && schedule.messages > 0; i++) { /* in the end all is delivered, and nothing stays on disk */
    end_wishes();
    while (due_count > 0) answer_done(0);
    turn();
  }
  settle();
  ck_assert_uint_eq(schedule.messages, 0);
  ck_assert_uint_gt(ids, 30);
}

START_TEST(nothing_is_lost_or_comes_back_by_being_moved) { crash_often((uint64_t)_i + 1, SPOOL_SYNC, 0, false); }
END_TEST
START_TEST(nor_without_a_sync_for_each) { crash_often((uint64_t)_i + 101, SPOOL_LAZY, 0, false); }
END_TEST
START_TEST(nor_on_a_disk_that_is_often_full) { crash_often((uint64_t)_i + 201, SPOOL_SYNC, 4 + (unsigned)_i % 4, false); }
END_TEST
START_TEST(nor_on_a_disk_that_finds_no_space) { crash_often((uint64_t)_i + 301, _i % 2 == 0 ? SPOOL_SYNC : SPOOL_LAZY, 0, true); }
END_TEST

/* A kill and then a loss of power, in rare orders: what the kill left in the cache alone is gone, or back, or as it was before. */
static const struct {
  uint64_t seed;
  enum spool_durability durability;
  bool stalls;
} rare[] = {{204, SPOOL_LAZY, false}, {217, SPOOL_LAZY, false}, {1421, SPOOL_SYNC, false}, {464, SPOOL_LAZY, true}};

START_TEST(nor_in_rare_orders) { crash_often(rare[_i].seed, rare[_i].durability, 0, rare[_i].stalls); }
END_TEST

#ifndef SEEDS
#define SEEDS 12
#endif

int main(void) {
  TCase *stay = tcase_create("stay"), *meanwhile = tcase_create("meanwhile"), *crashes = tcase_create("crashes");
  TCase *const cases[] = {stay, meanwhile, crashes};
  for (unsigned i = 0; i < 3; i++) {
    tcase_add_checked_fixture(cases[i], open_world, close_world);
    tcase_set_timeout(cases[i], 60);
  }
  tcase_add_test(stay, one_that_waits_does_not_keep_the_rest_on_disk);
  tcase_add_test(stay, the_same_without_a_sync_for_each);
  tcase_add_test(stay, the_same_with_a_long_message);
  tcase_add_test(stay, many_that_wait_are_moved_a_few_at_a_time);
  tcase_add_test(meanwhile, one_that_ends_meanwhile_is_gone);
  tcase_add_test(meanwhile, one_that_has_ended_but_for_a_job_is_passed_over);
  tcase_add_test(meanwhile, one_that_is_being_read_keeps_its_old_place_so_long);
  tcase_add_test(meanwhile, without_memory_it_is_tried_again);
  tcase_add_test(meanwhile, without_room_on_disk_it_is_tried_again);
  tcase_add_test(meanwhile, what_cannot_be_read_is_left_where_it_is);
  tcase_add_test(meanwhile, a_stop_begins_no_more);
  tcase_add_loop_test(crashes, nothing_is_lost_or_comes_back_by_being_moved, 0, SEEDS);
  tcase_add_loop_test(crashes, nor_without_a_sync_for_each, 0, SEEDS);
  tcase_add_loop_test(crashes, nor_on_a_disk_that_is_often_full, 0, SEEDS);
  tcase_add_loop_test(crashes, nor_on_a_disk_that_finds_no_space, 0, SEEDS);
  tcase_add_loop_test(crashes, nor_in_rare_orders, 0, sizeof rare / sizeof rare[0]);
  return unit_main("queue/move", cases, 3);
}
