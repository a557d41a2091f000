#include "queue/schedule.h"

#include <stdlib.h>

#include "core/base/canary.h"
#include "core/base/error.h"

/* A message on its way from memory to disk. */
struct store {
  struct spool_entry entry;
  struct schedule *schedule;
  struct message *message;
  bool is_spare;
};

static void message_due(void *context, struct timer *timer);

void schedule_init(struct schedule *schedule, struct shard *shard, struct slab *slab, struct spool *spool, struct counters *counters,
                   schedule_due due, void *context) {
  *schedule = (struct schedule){
      .shard = shard, .slab = slab, .spool = spool, .counters = counters, .due = due, .context = context, .memory_high_bytes = slab->limit_bytes / 2};
  schedule->spare = calloc(1, sizeof *schedule->spare);
  must(schedule->spare != NULL);
  domain_queues_init(&schedule->domains, shard->now_ns);
  mover_init(&schedule->mover, schedule);
  loader_init(&schedule->loader, schedule);
}

void schedule_fini(struct schedule *schedule) {
  loader_fini(&schedule->loader);
  mover_fini(&schedule->mover);
  free(schedule->spare);
  for (unsigned i = 0; i < SCHEDULE_LISTS; i++) {
    for (struct message *message = schedule->list[i].first, *next; message != NULL; message = next) {
      next = message->next;
      timer_cancel(&schedule->shard->wheel, &message->timer);
      message_free(schedule->slab, message);
    }
    schedule->list[i] = (struct message_list){NULL, NULL};
  }
  domain_queues_fini(&schedule->domains);
}

/* ---- lists ---- */

static struct message_list *list_of(struct schedule *schedule, const struct message *message) {
  if (message->place.segment == 0) return &schedule->list[SCHEDULE_UNSTORED];
  if (message->late) return &schedule->list[SCHEDULE_LATE];
  return &schedule->list[message->parts_count > 0 ? SCHEDULE_LONG : SCHEDULE_STORED];
}

static uint32_t oldest_of(const struct message *message) {
  uint32_t oldest = message->place.segment;
  for (uint32_t i = 0; message->parts != NULL && i < message->parts_count; i++)
    if (message->parts[i].segment < oldest) oldest = message->parts[i].segment;
  return oldest;
}

/* Where its age belongs, looked for from `near` on: what was stored last goes to the end at once. */
static void list_insert(struct schedule *schedule, struct message_list *list, struct message *message, struct message *near) {
  message->oldest = oldest_of(message);
  while (near != NULL && near->oldest > message->oldest) near = near->prev;
  struct message *next = near != NULL ? near->next : list->first;
  for (; next != NULL && next->oldest <= message->oldest; next = next->next) near = next;
  message->prev = near;
  message->next = next;
  *(near != NULL ? &near->next : &list->first) = message;
  *(next != NULL ? &next->prev : &list->last) = message;
  if (list == schedule->search.list && next == schedule->search.at) schedule->search.at = message; /* it may have been ahead before */
}

static void list_remove(struct schedule *schedule, struct message_list *list, struct message *message) {
  if (message == schedule->search.at) schedule->search.at = message->next;
  *(message->prev != NULL ? &message->prev->next : &list->first) = message->next;
  *(message->next != NULL ? &message->next->prev : &list->last) = message->prev;
}

void schedule_link(struct schedule *schedule, struct message *message) {
  struct message_list *list = list_of(schedule, message);
  message->schedule = schedule;
  list_insert(schedule, list, message, list->last);
  schedule->messages++;
}

void schedule_unlink(struct schedule *schedule, struct message *message) {
  list_remove(schedule, list_of(schedule, message), message);
  schedule->messages--;
}

void schedule_set_place(struct schedule *schedule, struct message *message, uint32_t part, struct spool_place place) {
  struct message_list *before = list_of(schedule, message), *list;
  list_remove(schedule, before, message);
  *(part < message->parts_count ? &message->parts[part] : &message->place) = place;
  if (part == message->parts_count) message->late = false; /* the record is moved last: now all of it lies where what is new does */
  list = list_of(schedule, message);
  bool is_newest = list->last == NULL || oldest_of(message) >= list->last->oldest;
  list_insert(schedule, list, message, list != before || is_newest ? list->last : message->prev);
}

void schedule_set_parts(struct schedule *schedule, struct message *message, struct spool_place *parts) {
  struct message_list *list = list_of(schedule, message);
  list_remove(schedule, list, message);
  message->parts = parts;
  list_insert(schedule, list, message, message->prev);
}

/* No job is left that might look at it. */
static void drop_content(struct schedule *schedule, struct message *message) {
  content_free(schedule->slab, message_content(message));
  message_set_content(message, NULL);
}

/* ---- due times ---- */

/* Of the WAITING recipients. UINT64_MAX: there are none. */
static uint64_t earliest_due_ms(const struct message *message) {
  uint64_t earliest = UINT64_MAX;
  for (unsigned i = 0; i < message->recipients; i++) {
    const struct recipient *recipient = &message->recipient[i];
    if (recipient->state == RECIPIENT_WAITING && recipient->due_ms < earliest) earliest = recipient->due_ms;
  }
  return earliest;
}

/* Nobody waits longer than may be, however far away the time seems that was noted by a clock that was wrong. */
static void bring_near(const struct schedule *schedule, struct recipient *recipient) {
  if (schedule->wait_max_ms == 0 || recipient->held || canary(CANARY_CLOCK)) return;
  uint64_t latest_ms = schedule->shard->wall_ms + schedule->wait_max_ms;
  if (recipient->due_ms > latest_ms) recipient->due_ms = latest_ms;
}

/* By the wheel's clock, which is monotonic. */
static uint64_t monotonic_ms(const struct schedule *schedule, uint64_t due_ms) {
  uint64_t wall_ms = schedule->shard->wall_ms;
  return schedule->shard->now_ms + (due_ms > wall_ms ? due_ms - wall_ms : 0);
}

/*
 * Sets the timer for the earliest WAITING recipient; there is one. The wheel runs on the monotonic clock, due times are wall clock, which may be set: so when the timer fires that
 * recipient is due whatever the time is.
 */
static void set_timer(struct schedule *schedule, struct message *message) {
  for (unsigned i = 0; i < message->recipients; i++)
    if (message->recipient[i].state == RECIPIENT_WAITING) bring_near(schedule, &message->recipient[i]);
  message->early = false;
  message->timer.fire = message_due;
  timer_set(&schedule->shard->wheel, &message->timer, monotonic_ms(schedule, earliest_due_ms(message)));
}

/*
 * One more waits, or one for another time. Not all are looked at, neither here nor when one waits no more: there may be tens of thousands, to whom it
 * happens one after the other.
 */
static void set_timer_for(struct schedule *schedule, struct message *message, unsigned i) {
  bring_near(schedule, &message->recipient[i]);
  uint64_t at_ms = monotonic_ms(schedule, message->recipient[i].due_ms);
  message->timer.fire = message_due;
  if (timer_is_set(&message->timer) && at_ms >= message->timer.due_ms) return;
  message->early = false; /* now it is this one's */
  timer_set(&schedule->shard->wheel, &message->timer, at_ms);
}

static void timer_is_early(struct schedule *schedule, struct message *message) {
  message->early = true;
  if (message->recipients == 1) timer_cancel(&schedule->shard->wheel, &message->timer);
}

/* The clock was, by so much, since they were given their times: these come as much earlier by it. */
static void set_back(struct message *message, uint64_t by_ms) {
  for (unsigned i = 0; i < message->recipients; i++)
    if (message->recipient[i].state == RECIPIENT_WAITING) message->recipient[i].due_ms -= by_ms;
}

static void become_waiting(struct schedule *schedule, struct message *message, unsigned i) {
  message->recipient[i].state = RECIPIENT_WAITING;
  domain_queue_add(message->recipient[i].domain, message, i);
  schedule->waiting++;
}

static void become_ready(struct schedule *schedule, struct message *message, unsigned i) {
  message->recipient[i].state = RECIPIENT_READY;
  message->recipient[i].domain->given++;
  schedule->ready++;
}

static void leave_waiting(struct schedule *schedule, struct message *message, unsigned i) {
  domain_queue_remove(message->recipient[i].domain, message, i);
  schedule->waiting--;
  if (message->recipient[i].held) schedule->held--;
  message->recipient[i].held = false;
}

static void leave_ready(struct schedule *schedule, struct message *message, unsigned i) {
  struct recipient *recipient = &message->recipient[i];
  must(recipient->state == RECIPIENT_READY && recipient->domain->given > 0);
  recipient->domain->given--;
  schedule->ready--;
}

/* Gives out what is due. The message is held by a job of our own meanwhile: `due` may end recipients at once. */
static void message_due(void *context, struct timer *timer) {
  (void)context;
  struct message *message = (struct message *)((uint8_t *)timer - offsetof(struct message, timer));
  struct schedule *schedule = message->schedule;
  uint64_t wall_ms = schedule->shard->wall_ms, earliest = earliest_due_ms(message);
  bool later = false, is_set_back = earliest != UINT64_MAX && earliest > wall_ms && !message->early;
  if (is_set_back && !canary(CANARY_CLOCK)) set_back(message, earliest - wall_ms);
  message->early = false;
  schedule_job_began(message);
  for (unsigned i = 0; i < message->recipients; i++) {
    const struct recipient *recipient = &message->recipient[i];
    if (recipient->state != RECIPIENT_WAITING) continue;
    if (recipient->due_ms > wall_ms) {
      later = true;
      continue;
    }
    leave_waiting(schedule, message, i);
    become_ready(schedule, message, i);
    schedule->due(schedule->context, message, i);
  }
  if (later) set_timer(schedule, message);
  schedule_job_ended(schedule, message);
}

/* The usual recipient is due at once, and never waits in its domain's queue. */
static void enter(struct schedule *schedule, struct message *message, bool gives_out) {
  bool later = false;
  schedule_job_began(message);
  for (unsigned i = 0; i < message->recipients; i++) {
    struct recipient *recipient = &message->recipient[i];
    if (recipient->state == RECIPIENT_DONE) continue;
    recipient->domain = domain_queue_get(&schedule->domains, message_domain(message, i));
    if (gives_out && recipient->due_ms <= schedule->shard->wall_ms) {
      become_ready(schedule, message, i);
      schedule->due(schedule->context, message, i);
    } else {
      become_waiting(schedule, message, i);
      later = true;
    }
  }
  if (later) set_timer(schedule, message);
  schedule_job_ended(schedule, message);
}

void schedule_add(struct schedule *schedule, struct message *message) {
  schedule_link(schedule, message);
  if (message_content(message) != NULL && message->place.segment != 0 && schedule->slab->used_bytes > schedule->memory_high_bytes) {
    drop_content(schedule, message);
  }
  enter(schedule, message, true);
}

/* ---- outcomes ---- */

static void append_outcome(struct schedule *schedule, const struct message *message, unsigned i, enum record_outcome_kind kind) {
  if (message->place.segment == 0) return;                            /* not on disk: nothing to correct there */
  if (kind == RECORD_DEFERRED && spool_full(schedule->spool)) return; /* what room is left is for ends; a restart then tries it early, no more */
  if (canary(CANARY_SKIPPED_OUTCOME) && kind == RECORD_DELIVERED) return;
  uint8_t room[RECORD_OUTCOME_SIZE];
  const struct recipient *recipient = &message->recipient[i];
  record_outcome_encode(&(struct record_outcome){.kind = kind,
                                                 .id = message->id,
                                                 .recipient = recipient->index,
                                                 .attempts = recipient->attempts,
                                                 .due_ms = kind == RECORD_DEFERRED ? recipient_due_on_disk(recipient) : 0},
                        room);
  spool_append_outcome(schedule->spool, span_of(room, sizeof room));
}

static void append_mark(struct schedule *schedule, const struct message *message, unsigned i, enum record_outcome_kind kind) {
  if (message->place.segment == 0) return;
  uint8_t room[RECORD_OUTCOME_SIZE];
  record_outcome_encode(&(struct record_outcome){.kind = kind, .id = message->id, .recipient = message->recipient[i].index}, room);
  spool_append_outcome(schedule->spool, span_of(room, sizeof room));
}

void schedule_mark(struct schedule *schedule, struct message *message, unsigned i, enum record_outcome_kind kind) {
  uint8_t mark = record_outcome_mark(kind), *notify = &message->recipient[i].notify;
  if ((*notify & mark) == 0) append_mark(schedule, message, i, kind);
  *notify |= mark;
}

bool schedule_all_told(struct schedule *schedule) {
  uint8_t room[RECORD_OUTCOME_SIZE];
  if (schedule->messages == 0 || schedule->loader.list.untold > 0 || spool_full(schedule->spool))
    return false; /* what room there is, is for outcomes */
  record_outcome_encode(&(struct record_outcome){.kind = RECORD_TOLD}, room);
  spool_append_outcome(schedule->spool, span_of(room, sizeof room));
  return true;
}

static void forget(struct schedule *schedule, struct message *message) {
  spool_forget(schedule->spool, message->place);
  for (uint32_t i = 0; i < message->parts_count; i++) spool_forget(schedule->spool, message->parts[i]);
}

static void free_if_over(struct schedule *schedule, struct message *message) {
  if (message->live > 0 || message->jobs > 0 || message->storing || message->loads != NULL) return;
  timer_cancel(&schedule->shard->wheel, &message->timer);
  forget(schedule, message);
  schedule_unlink(schedule, message);
  schedule->ended++;
  message_free(schedule->slab, message);
}

void schedule_done(struct schedule *schedule, struct message *message, unsigned i, enum record_outcome_kind kind) {
  leave_ready(schedule, message, i);
  message->recipient[i].state = RECIPIENT_DONE;
  message->live--;
  append_outcome(schedule, message, i, kind);
  free_if_over(schedule, message);
}

void schedule_defer(struct schedule *schedule, struct message *message, unsigned i, uint64_t due_ms, bool attempted) {
  struct recipient *recipient = &message->recipient[i];
  leave_ready(schedule, message, i);
  recipient->due_ms = due_ms;
  if (attempted) recipient->attempts++;
  become_waiting(schedule, message, i);
  append_outcome(schedule, message, i, RECORD_DEFERRED);
  set_timer_for(schedule, message, i);
}

/* ---- what operators do ---- */

/* On disk it is due as before: after a restart it comes, and finds its domain suspended still, or not. */
void schedule_hold(struct schedule *schedule, struct message *message, unsigned i, uint64_t due_ms) {
  leave_ready(schedule, message, i);
  message->recipient[i].due_ms = due_ms;
  message->recipient[i].held = true;
  schedule->held++;
  become_waiting(schedule, message, i);
  set_timer_for(schedule, message, i);
}

void schedule_hold_until(struct schedule *schedule, struct message *message, unsigned i, uint64_t due_ms) {
  must(message->recipient[i].state == RECIPIENT_WAITING && message->recipient[i].held);
  message->recipient[i].due_ms = due_ms;
  timer_is_early(schedule, message);
  set_timer_for(schedule, message, i);
}

void schedule_take(struct schedule *schedule, struct message *message, unsigned i) {
  must(message->recipient[i].state == RECIPIENT_WAITING);
  leave_waiting(schedule, message, i);
  become_ready(schedule, message, i);
  timer_is_early(schedule, message);
}

void schedule_set_due(struct schedule *schedule, struct message *message, unsigned i, uint64_t due_ms) {
  must(message->recipient[i].state == RECIPIENT_WAITING);
  if (message->recipient[i].held) schedule->held--;
  message->recipient[i].held = false;
  message->recipient[i].due_ms = due_ms;
  timer_is_early(schedule, message);
  set_timer_for(schedule, message, i);
}

void schedule_retry(struct schedule *schedule, struct message *message, unsigned i) {
  schedule_take(schedule, message, i);
  message->recipient[i].due_ms = schedule->shard->wall_ms;
  schedule_job_began(message);
  schedule->due(schedule->context, message, i);
  schedule_job_ended(schedule, message);
}

/* Ways between lists lead only from those that are looked through earlier, and within one only from its front to its end. */
static void search_next_list(struct schedule *schedule) {
  static const enum schedule_list way[SCHEDULE_LISTS] = {SCHEDULE_UNSTORED, SCHEDULE_LATE, SCHEDULE_LONG, SCHEDULE_STORED};
  bool is_over = schedule->search.lists == SCHEDULE_LISTS;
  schedule->search.list = is_over ? NULL : &schedule->list[way[schedule->search.lists++]];
  schedule->search.at = is_over ? NULL : schedule->search.list->first;
}

void schedule_find_begin(struct schedule *schedule, uint64_t id) {
  schedule->search.id = id;
  schedule->search.lists = 0;
  search_next_list(schedule);
}

bool schedule_find_on(struct schedule *schedule, unsigned budget, struct message **message) {
  *message = NULL;
  for (; schedule->search.list != NULL && budget > 0; budget--) {
    struct message *at = schedule->search.at;
    if (at == NULL) {
      search_next_list(schedule);
    } else if (at->id == schedule->search.id) {
      *message = at;
      schedule->search.list = NULL;
      schedule->search.at = NULL;
    } else {
      schedule->search.at = at->next;
    }
  }
  return schedule->search.list == NULL;
}

/* ---- what is only in memory goes to disk: after a first attempt that failed, and before a stop ---- */

/* The record's head is as the message came: what happened until now is said by outcomes. */
static void catch_up(struct schedule *schedule, const struct message *message) {
  for (unsigned i = 0; i < message->recipients; i++) {
    const struct recipient *recipient = &message->recipient[i];
    if (recipient->state == RECIPIENT_DONE) {
      append_outcome(schedule, message, i, RECORD_DELIVERED);
      continue;
    }
    if (recipient->due_ms > 0) append_outcome(schedule, message, i, RECORD_DEFERRED);
    if ((recipient->notify & RECORD_WARNED_BIT) != 0) append_mark(schedule, message, i, RECORD_WARNED);
    if ((recipient->notify & RECORD_OWED_BIT) != 0) append_mark(schedule, message, i, RECORD_OWED);
  }
}

static struct store *store_get(struct schedule *schedule, struct message *message) {
  struct store *store = slab_get(schedule->slab, sizeof *store);
  bool is_spare = store == NULL;
  if (is_spare) {
    store = schedule->spare;
    schedule->spare = NULL;
  }
  if (store != NULL) *store = (struct store){.schedule = schedule, .message = message, .is_spare = is_spare};
  return store;
}

static void store_put(struct schedule *schedule, struct store *store) {
  if (store->is_spare) {
    schedule->spare = store;
  } else {
    slab_put(schedule->slab, store, sizeof *store);
  }
}

static void stored(struct spool_entry *entry, int error) {
  struct store *store = (struct store *)entry;
  struct schedule *schedule = store->schedule;
  struct message *message = store->message;
  struct spool_place place = entry->place;
  store_put(schedule, store);
  message->storing = false;
  if (error == E_OK) schedule_set_place(schedule, message, message->parts_count, place);
  if (error == E_OK && message->jobs == 0) drop_content(schedule, message);
  if (error == E_OK) catch_up(schedule, message);
  free_if_over(schedule, message);
}

static void store_message(struct schedule *schedule, struct message *message) {
  if (message->place.segment != 0 || message->storing || message_content(message) == NULL) return;
  struct store *store = store_get(schedule, message);
  if (store == NULL) return; /* it stays in memory, and is tried again after its next attempt */
  store->entry.slices = message_content(message)->slice;
  store->entry.slices_count = message_content(message)->chunks;
  store->entry.store = true;
  store->entry.durable = stored;
  message->storing = true;
  spool_append(schedule->spool, &store->entry);
}

uint64_t schedule_store_all(struct schedule *schedule) {
  uint64_t left = 0;
  mover_stop(&schedule->mover);
  for (struct message *message = schedule->list[SCHEDULE_UNSTORED].first; message != NULL; message = message->next) {
    if (message->live == 0) continue;
    store_message(schedule, message);
    left++;
  }
  return left;
}

void schedule_job_ended(struct schedule *schedule, struct message *message) {
  must(message->jobs > 0);
  if (--message->jobs > 0) return;
  if (message->live > 0 && message_content(message) != NULL) {
    if (message->place.segment == 0) {
      store_message(schedule, message);
    } else if (!message->storing) {
      drop_content(schedule, message);
    }
  }
  free_if_over(schedule, message);
}

/* ---- content back from disk ---- */

static void load_next_chunk(struct load *load);

/* The record as read: is it whole, and whose is it? The head's size comes from its header. */
static int check_record(const struct load *load, struct content *content) {
  struct record_header header;
  uint64_t hash;
  int error = spool_check(load->_schedule->spool, load->_place, content->slice, content->chunks);
  if (error != E_OK) return error;
  error = record_header_decode(&header, content->slice[0].at, content->slice[0].len, load->_place.segment, &hash);
  if (error != E_OK) return error;
  if (header.id != load->message->id || header.length != load->_place.length) return E_CORRUPT;
  content->head_size = RECORD_HEADER_SIZE + header.envelope_size;
  content->total = content->head_size + (uint64_t)header.content_size;
  return E_OK;
}

static void load_done(struct load *load, int error) {
  struct schedule *schedule = load->_schedule;
  struct message *message = load->message;
  if (--message->reads == 0 && message->moving) mover_look(&schedule->mover); /* it may wait for the end of the reads */
  if (error == E_OK) error = check_record(load, load->content);
  if (error != E_OK) {
    content_free(schedule->slab, load->content);
    load->content = NULL;
  }
  if (load->part < message->parts_count) {
    load->done(load, error);
    return;
  }
  if (error == E_OK) {
    message_set_content(message, load->content);
    load->content = NULL;
  }
  struct load *waiting = message->loads; /* itself, and whoever asked meanwhile */
  message->loads = NULL;
  while (waiting != NULL) {
    struct load *next = waiting->_next;
    waiting->done(waiting, error);
    waiting = next;
  }
}

static void load_chunk_done(struct spool_read *read, int64_t result) {
  struct load *load = (struct load *)((uint8_t *)read - offsetof(struct load, _read));
  struct io_slice *slice = &load->content->slice[load->_chunk];
  if (result != (int64_t)slice->len) {
    load_done(load, result < 0 ? (int)result : E_CORRUPT);
    return;
  }
  load->_chunk++;
  if (load->_chunk == load->content->chunks) {
    load_done(load, E_OK);
  } else {
    load_next_chunk(load);
  }
}

static void load_next_chunk(struct load *load) {
  uint32_t offset = 0;
  for (uint32_t i = 0; i < load->_chunk; i++) offset += (uint32_t)load->content->slice[i].len;
  load->_read = (struct spool_read){.place = load->_place, .offset = offset, .slice = load->content->slice[load->_chunk], .done = load_chunk_done};
  spool_read_start(load->_schedule->spool, &load->_read);
}

void schedule_load(struct schedule *schedule, struct load *load) {
  struct message *message = load->message;
  bool own = load->part >= message->parts_count;
  load->_schedule = schedule;
  load->_next = NULL;
  load->_chunk = 0;
  load->content = NULL;
  if (own && message_content(message) != NULL) {
    load->done(load, E_OK);
    return;
  }
  if (own && message->loads != NULL) {
    load->_next = message->loads->_next;
    message->loads->_next = load;
    return;
  }
  load->_place = own ? message->place : message->parts[load->part];
  load->content = load->_place.segment == 0 ? NULL : content_for_read(schedule->slab, load->_place.length);
  if (load->content == NULL) {
    load->done(load, E_NO_MEMORY);
    return;
  }
  if (own) message->loads = load;
  message->reads++;
  load_next_chunk(load);
}

/* ---- after a restart ---- */

void schedule_begin(struct schedule *schedule) {
  for (unsigned i = 0; i < SCHEDULE_LISTS; i++) {
    for (struct message *message = schedule->list[i].first; message != NULL; message = message->next) {
      enter(schedule, message, false);
    }
  }
}
