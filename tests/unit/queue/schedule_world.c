/*
 * A schedule on the fake spool and a slab of its own, and messages to put into it, for tests: #include this file.
 */
#include "queue/restore.h"
#include "queue/schedule.h"

#include "tests/unit/queue/fake_slab.c"
#include "tests/unit/queue/fake_spool.c"

#include "tests/lib/unit.h"

#define UNUSED __attribute__((unused))
#define START_WALL_MS 1000000
#define DUE_MAX 4096

struct due {
  struct message *message;
  unsigned recipient;
};

/* What a test wants done at once with a recipient that is due. */
enum at_once { KEEP, FINISH, PUT_OFF };

static struct slab slab;
static struct spool spool;
static struct shard shard;
static struct counters counters;
static struct schedule schedule;
static struct due due[DUE_MAX];
static unsigned due_count;
static enum at_once (*at_once)(unsigned recipient);

static void when_due(void *context, struct message *message, unsigned recipient) {
  ck_quick(context == &schedule && message->recipient[recipient].state == RECIPIENT_READY);
  enum at_once what = at_once == NULL ? KEEP : at_once(recipient);
  if (what == FINISH) {
    schedule_done(&schedule, message, recipient, RECORD_DELIVERED);
  } else if (what == PUT_OFF) {
    schedule_defer(&schedule, message, recipient, shard.wall_ms + 5000, false);
  } else {
    ck_quick(due_count < DUE_MAX);
    due[due_count++] = (struct due){message, recipient};
    schedule_job_began(message);
  }
}

static void open_schedule(void) {
  shard.now_ms = 500;
  shard.now_ns = 500000000;
  shard.wall_ms = START_WALL_MS;
  wheel_init(&shard.wheel, shard.now_ms);
  schedule_init(&schedule, &shard, &slab, &spool, &counters, when_due, &schedule);
  due_count = 0;
  at_once = NULL;
}

static void open_world(void) {
  slab_init(&slab, 64 << 20);
  open_schedule();
}

static void close_world(void) {
  schedule_fini(&schedule);
  ck_assert_uint_eq(shard.wheel.count, 0);
  fake_spool_free(&spool);
  slab_fini(&slab); /* every test gives back what it took */
}

/* All has ended, by itself. */
static void expect_nothing_left(void) {
  ck_assert_uint_eq(schedule.messages, 0);
  ck_assert_uint_eq(schedule.waiting, 0);
  ck_assert_uint_eq(schedule.ready, 0);
  for (unsigned i = 0; i < SCHEDULE_LISTS; i++) ck_assert(schedule.list[i].first == NULL && schedule.list[i].last == NULL);
  ck_assert_uint_eq(slab.used_bytes, 0);
  ck_assert_uint_eq(fake_spool_live(&spool), 0);
  ck_assert_uint_eq(shard.wheel.count, 0);
}

static UNUSED void expect_counts(uint64_t messages, uint64_t waiting, uint64_t ready) {
  ck_assert_uint_eq(schedule.messages, messages);
  ck_assert_uint_eq(schedule.waiting, waiting);
  ck_assert_uint_eq(schedule.ready, ready);
}

static UNUSED struct message *first_of(enum schedule_list list) { return schedule.list[list].first; }

static void pass(uint64_t ms) {
  shard.now_ms += ms;
  shard.wall_ms += ms;
  wheel_advance(&shard.wheel, shard.now_ms, NULL, 1000);
}

/* ---- making messages ---- */

struct plan {          /* of a message; zero is the usual one */
  uint32_t recipients; /* 0: one */
  uint64_t due_ms;
  uint32_t content; /* bytes */
  uint32_t parts;
  enum record_type type;
  uint32_t number; /* of a part */
  uint32_t skip;   /* the first recipients are not in it any more */
  uint16_t attempts;
};

static uint8_t pattern(uint64_t id, uint64_t at) { return (uint8_t)(id * 7 + at * 31 + (at >> 8)); }

static struct content *make_record(uint64_t id, const struct plan *plan) {
  struct content *content = content_new(&slab, 0);
  static const uint8_t header[RECORD_HEADER_SIZE];
  uint8_t room[512];
  uint32_t recipients = plan->recipients == 0 ? 1 : plan->recipients;
  struct record_envelope envelope = {.sender = SPAN("s@example.org"), .created_ms = START_WALL_MS, .recipients = recipients - plan->skip};
  struct fmt out = fmt_over(room, sizeof room);
  record_envelope_encode(&envelope, &out);
  ck_quick(content_append(&slab, content, span_of(header, sizeof header)) && content_append(&slab, content, fmt_span(&out)));
  for (uint32_t i = plan->skip; i < recipients; i++) {
    struct span address = i % 2 == 0 ? SPAN("r@example.net") : SPAN("r@Example.org");
    struct record_recipient recipient = {.address = address, .index = (uint16_t)i, .due_ms = plan->due_ms, .attempts = plan->attempts};
    out = fmt_over(room, sizeof room);
    record_recipient_encode(&recipient, &out);
    ck_quick(content_append(&slab, content, fmt_span(&out)));
  }
  content_end_head(content);
  for (uint32_t at = 0; at < plan->content; at++) {
    uint8_t byte = pattern(id, at);
    ck_quick(content_append(&slab, content, span_of(&byte, 1)));
  }
  uint32_t size = (uint32_t)content_size(content);
  struct record_header encoded = {.type = plan->type == RECORD_INVALID ? RECORD_MESSAGE : plan->type,
                                  .length = content_pad(content, FAKE_SPOOL_PADDING),
                                  .envelope_size = content->head_size - RECORD_HEADER_SIZE,
                                  .content_size = size,
                                  .parts = plan->type == RECORD_PART ? plan->number : plan->parts,
                                  .id = id};
  record_header_encode(&encoded, content->slice[0].at);
  return content;
}

static void note_place(struct spool_entry *entry, int error) {
  ck_assert_int_eq(error, E_OK);
  (void)entry;
}

static struct spool_place write_record(const struct content *content) {
  struct spool_entry entry = {
      .slices = (struct io_slice *)(uintptr_t)content->slice, .slices_count = content->chunks, .store = true, .durable = note_place};
  spool_append(&spool, &entry);
  spool_turn(&spool, shard.now_ms);
  return entry.place;
}

static struct message *make_message(uint64_t id, const struct plan *plan, bool on_disk) {
  struct content *content = make_record(id, plan);
  struct span envelope = span_of((uint8_t *)content->slice[0].at + RECORD_HEADER_SIZE, content->head_size - RECORD_HEADER_SIZE);
  struct message *message = message_new(&slab, id, envelope);
  ck_assert_ptr_nonnull(message);
  message->content = content;
  message->size = plan->content;
  if (on_disk) message->place = write_record(content);
  return message;
}

static struct message *accept_message(uint64_t id, const struct plan *plan) {
  struct message *message = make_message(id, plan, spool.durability != SPOOL_MEMORY);
  schedule_add(&schedule, message);
  return message;
}

static UNUSED struct spool_place put_on_disk(uint64_t id, const struct plan *plan) {
  struct content *content = make_record(id, plan);
  struct spool_place place = write_record(content);
  content_free(&slab, content);
  return place;
}

/* The outgoing side's answer to entry number `at` of `due`, and the end of its job. */
static void answer_done(unsigned at, enum record_outcome_kind kind) {
  schedule_done(&schedule, due[at].message, due[at].recipient, kind);
  schedule_job_ended(&schedule, due[at].message);
}

static void answer_defer(unsigned at, uint64_t delay_ms) {
  schedule_defer(&schedule, due[at].message, due[at].recipient, shard.wall_ms + delay_ms, true);
  schedule_job_ended(&schedule, due[at].message);
}

/* ---- a restart ---- */

static UNUSED void restart(void) {
  schedule_fini(&schedule);
  spool_turn(&spool, 0);
  fake_spool_restart(&spool);
  ck_assert_uint_eq(slab.used_bytes, 0);
  open_schedule();
  uint64_t newest_id, damaged;
  uint8_t room[128];
  struct fmt why = fmt_over(room, sizeof room);
  ck_assert_int_eq(restore_schedule(&schedule, &newest_id, &damaged, &why), E_OK);
}

/* ---- reads of content ---- */

struct wish {
  struct load load;
  unsigned calls;
  int error;
};

static void loaded(struct load *load, int error) {
  struct wish *wish = load->context;
  wish->calls++;
  wish->error = error;
}

static UNUSED void ask(struct wish *wish, struct message *message, uint32_t part) {
  *wish = (struct wish){.load = {.message = message, .part = part, .done = loaded, .context = wish}};
  schedule_load(&schedule, &wish->load);
}

static UNUSED void check_content(const struct content *content, uint64_t id, uint32_t size) {
  struct io_slice slices[CONTENT_CHUNKS_MAX];
  unsigned count = content_slices(content, slices);
  uint64_t at = 0;
  for (unsigned i = 0; i < count; i++)
    for (size_t j = 0; j < slices[i].len; j++, at++) ck_quick(((uint8_t *)slices[i].at)[j] == pattern(id, at));
  ck_assert_uint_eq(at, size);
}

/* ---- what is waiting, by domain ---- */

/* The queues by domain hold what the messages say, each recipient once, and the counts are theirs. */
static UNUSED void check_queues(void) {
  uint64_t waiting = 0, held = 0, given = 0, listed = 0, queues_waiting = 0, queues_given = 0;
  for (unsigned i = 0; i < SCHEDULE_LISTS; i++) {
    for (const struct message *message = schedule.list[i].first; message != NULL; message = message->next) {
      for (unsigned r = 0; r < message->recipients; r++) {
        waiting += message->recipient[r].state == RECIPIENT_WAITING;
        given += message->recipient[r].state == RECIPIENT_READY;
        held += message->recipient[r].held;
        ck_quick(!message->recipient[r].held || message->recipient[r].state == RECIPIENT_WAITING);
      }
    }
  }
  for (const struct domain_queue *queue = schedule.domains.first; queue != NULL; queue = queue->next) {
    const struct recipient *before = NULL;
    for (const struct recipient *one = queue->first; one != NULL; before = one, one = one->next, listed++)
      ck_quick(one->prev == before && one->domain == queue && one->state == RECIPIENT_WAITING);
    ck_quick(queue->last == before);
    queues_waiting += queue->waiting;
    queues_given += queue->given;
  }
  ck_quick(waiting == schedule.waiting && waiting == listed && waiting == queues_waiting);
  ck_quick(given == schedule.ready && given == queues_given);
  ck_quick(held == schedule.held);
}
