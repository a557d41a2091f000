#include "queue/move.h"

#include "core/base/error.h"
#include "queue/schedule.h"

/* Enough to keep the disk busy and to fill commits; little beside the memory of a shard. */
#define MOVES_MAX 32
#define MOVES_BYTES_MAX (4u << 20) /* a single record may be as long as that */
#define MOVE_RETRY_MS 1000         /* after memory or disk ran out */
#define MOVE_WAIT_MS 5             /* for outcomes to be released: looks at it meanwhile */

struct move {
  struct spool_entry entry;
  struct load load;
  struct mover *mover;
  struct message *message;
  struct content *copy;   /* until it is durable */
  struct spool_place old; /* what is to be forgotten */
  uint16_t live;          /* recipients, when it was last looked at; */
  uint64_t outcomes;      /* ... and so much was appended of outcomes: those that say why the others are not live have to be released */
  bool loaded, appended;  /* the record is in memory; its copy is on its way */
  bool copied;            /* durable: only reads of the old place may still be under way */
  struct move *next;
};

static void look_at(struct mover *mover, uint64_t due_ms) {
  if (timer_is_set(&mover->timer) && mover->timer.due_ms <= due_ms) return;
  timer_set(&mover->schedule->shard->wheel, &mover->timer, due_ms);
}

/* ---- to and from the list ---- */

static struct move *new_move(struct mover *mover, struct message *message, uint32_t part) {
  struct move *move = slab_get(mover->schedule->slab, sizeof *move);
  if (move == NULL) return NULL;
  *move = (struct move){.mover = mover, .message = message, .next = mover->first};
  move->load = (struct load){.message = message, .part = part};
  move->old = part < message->parts_count ? message->parts[part] : message->place;
  mover->first = move;
  mover->moves++;
  mover->bytes += move->old.length;
  message->moving = true;
  schedule_job_began(message);
  return move;
}

static bool is_part(const struct move *move) { return move->load.part < move->message->parts_count; }

static void drop_memory(struct move *move) {
  struct slab *slab = move->mover->schedule->slab;
  content_free(slab, move->load.content); /* a part, or a read that never came to its end */
  content_free(slab, move->copy);
  move->load.content = move->copy = NULL;
}

/* However it went. The message may be freed by this. */
static void end_move(struct move *move) {
  struct mover *mover = move->mover;
  struct message *message = move->message;
  struct move **at = &mover->first;
  while (*at != move) at = &(*at)->next;
  *at = move->next;
  mover->moves--;
  mover->bytes -= move->old.length;
  drop_memory(move);
  slab_put(mover->schedule->slab, move, sizeof *move);
  message->moving = false;
  schedule_job_ended(mover->schedule, message);
}

/* What is short now is tried again; what the disk cannot read or write is left until the log asks again. */
static void move_failed(struct move *move, int error) {
  struct mover *mover = move->mover;
  if (error == E_NO_MEMORY || error == E_NO_SPACE) {
    mover->not_before_ms = mover->schedule->shard->now_ms + MOVE_RETRY_MS;
  } else {
    mover->segment = 0;
  }
  end_move(move);
}

/* ---- one move ---- */

/* The head is of this moment: what is appended of outcomes from now on stands behind the copy. */
static bool make_copy(struct move *move) {
  struct slab *slab = move->mover->schedule->slab;
  const struct content *old = is_part(move) ? move->load.content : message_content(move->message);
  struct io_slice slices[CONTENT_CHUNKS_MAX];
  unsigned count = content_slices(old, slices);
  move->copy = content_new(slab, old->total);
  if (move->copy == NULL || !message_write_head(slab, move->message, move->copy)) return false;
  for (unsigned i = 0; i < count; i++)
    if (!content_append(slab, move->copy, span_of(slices[i].at, slices[i].len))) return false;
  const struct message *message = move->message;
  message_end_record(move->copy, is_part(move) ? RECORD_PART : RECORD_MESSAGE, message->id, is_part(move) ? move->load.part : message->parts_count,
                     spool_padding(move->mover->schedule->spool));
  return true;
}

static void end_copied(struct move *move) {
  spool_forget(move->mover->schedule->spool, move->old);
  end_move(move);
}

static void copy_durable(struct spool_entry *entry, int error) {
  struct move *move = (struct move *)entry;
  struct mover *mover = move->mover;
  if (error != E_OK) {
    move_failed(move, error);
    mover_look(mover);
    return;
  }
  drop_memory(move);
  schedule_set_place(mover->schedule, move->message, move->load.part, entry->place);
  move->copied = true;
  if (move->message->reads == 0) end_copied(move);
  mover_look(mover);
}

/* A head without a recipient says that it has ended: not before the log may say so. */
static bool ends_are_released(struct move *move) {
  const struct spool *spool = move->mover->schedule->spool;
  if (move->live != move->message->live) {
    move->live = move->message->live;
    move->outcomes = spool_outcomes(spool);
  }
  return spool_outcomes_released(spool) >= move->outcomes;
}

/* The record is in memory. May end the move. */
static void append_copy(struct move *move) {
  struct mover *mover = move->mover;
  if (move->message->live == 0) {
    end_move(move); /* it ended meanwhile, and its place goes with it */
    mover_look(mover);
  } else if (!ends_are_released(move)) {
    look_at(mover, mover->schedule->shard->now_ms + MOVE_WAIT_MS);
  } else if (!make_copy(move)) {
    move_failed(move, E_NO_MEMORY);
    mover_look(mover);
  } else {
    move->entry =
        (struct spool_entry){.slices = move->copy->slice, .slices_count = move->copy->chunks, .store = true, .move = true, .durable = copy_durable};
    move->appended = true;
    spool_append(mover->schedule->spool, &move->entry);
  }
}

static void loaded(struct load *load, int error) {
  struct move *move = load->context;
  struct mover *mover = move->mover;
  if (error != E_OK) {
    move_failed(move, error);
    mover_look(mover);
    return;
  }
  move->loaded = true;
  append_copy(move);
}

/* ---- which next ---- */

/*
 * In each list those that lie in the oldest segments are in front; as they are moved they leave it, so only those under way have to be passed over,
 * and those that have ended but for their last job.
 */
static struct message *find(const struct mover *mover, enum schedule_list list) {
  struct message *message = mover->schedule->list[list].first;
  while (message != NULL && message->oldest <= mover->segment && (message->moving || message->live == 0)) message = message->next;
  return message != NULL && message->oldest <= mover->segment ? message : NULL;
}

static uint32_t part_in(const struct message *message, uint32_t segment) {
  uint32_t part = 0;
  while (part < message->parts_count && message->parts[part].segment > segment) part++;
  return part;
}

static bool may_begin(const struct mover *mover) {
  if (mover->segment == 0 || mover->stopped || mover->moves >= MOVES_MAX) return false;
  return (mover->moves == 0 || mover->bytes < MOVES_BYTES_MAX) && mover->schedule->shard->now_ms >= mover->not_before_ms;
}

static void begin_some(struct mover *mover) {
  struct schedule *schedule = mover->schedule;
  while (may_begin(mover)) {
    struct message *message = find(mover, SCHEDULE_STORED);
    if (message == NULL) message = find(mover, SCHEDULE_LONG);
    if (message == NULL) message = find(mover, SCHEDULE_LATE);
    if (message == NULL) {
      if (mover->moves == 0 && !unloaded_holds(&schedule->loader.list, mover->segment)) mover->segment = 0; /* else more will come */
      return;
    }
    struct move *move = new_move(mover, message, part_in(message, mover->segment));
    if (move == NULL) {
      mover->not_before_ms = schedule->shard->now_ms + MOVE_RETRY_MS;
      return;
    }
    move->load.done = loaded;
    move->load.context = move;
    schedule_load(schedule, &move->load); /* may end it at once */
  }
}

static void look(void *context, struct timer *timer) {
  (void)context;
  struct mover *mover = (struct mover *)((uint8_t *)timer - offsetof(struct mover, timer));
  for (struct move *move = mover->first, *next; move != NULL; move = next) {
    next = move->next;
    if (move->copied && move->message->reads == 0) {
      end_copied(move);
    } else if (move->loaded && !move->appended) {
      append_copy(move);
    }
  }
  begin_some(mover);
  if (mover->segment != 0 && mover->schedule->shard->now_ms < mover->not_before_ms) look_at(mover, mover->not_before_ms);
}

/* ---- life ---- */

void mover_look(struct mover *mover) { look_at(mover, mover->schedule->shard->now_ms); }

static void asked(void *context, uint32_t segment, bool cornered) {
  struct mover *mover = context;
  mover->segment = segment;
  mover_look(mover);
  if (cornered && mover->pinned != NULL) mover->pinned(mover->context, segment);
}

void mover_init(struct mover *mover, struct schedule *schedule) {
  *mover = (struct mover){.schedule = schedule, .timer.fire = look};
  spool_on_move(schedule->spool, asked, mover);
}

void mover_fini(struct mover *mover) {
  timer_cancel(&mover->schedule->shard->wheel, &mover->timer);
  while (mover->first != NULL) {
    struct move *move = mover->first;
    mover->first = move->next;
    drop_memory(move);
    slab_put(mover->schedule->slab, move, sizeof *move);
  }
}

void mover_on_pinned(struct mover *mover, void (*pinned)(void *context, uint32_t segment), void *context) {
  mover->pinned = pinned;
  mover->context = context;
}

void mover_stop(struct mover *mover) { mover->stopped = true; }
