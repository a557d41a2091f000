#include "queue/spool/adopt.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/canary.h"
#include "core/base/error.h"
#include "queue/spool/view.h"

#define NAME_ROOM 64
#define BATCH_BYTES (2 * SPOOL_RECORD_MAX) /* copied with one wait: so much, */
#define BATCH_RECORDS 1024                 /* and so many */
#define BUSY_WAIT_NS (3 * 1000000000ull)
#define BUSY_STEP_NS (20 * 1000000ull)
#define KEPT_MAX 1000
#define PART_COPIED 0 /* the length of no record: this part is there from an earlier try */
#define NS_PER_MS 1000000ull

static int complain(struct fmt *why, const char *what, int error) {
  fmt_text(why, what);
  fmt_text(why, ": ");
  fmt_text(why, error_text(error));
  return error;
}

/* ---- where the copies go: a spool that is opened for that ---- */

struct target;

struct copy {
  struct spool_entry entry; /* first: the entry is the copy */
  struct io_slice slice;
  struct target *target;
};

struct target {
  struct io *io;
  uint8_t token_kind;
  struct wheel wheel;
  struct spool *spool; /* NULL: not open */
  uint8_t *room;       /* of the records in the batch */
  size_t used;
  struct copy *copies;
  unsigned count, told;
  int error; /* of the first that failed */
};

static void copy_durable(struct spool_entry *entry, int error) {
  struct target *target = ((struct copy *)entry)->target;
  target->told++;
  if (target->error == E_OK) target->error = error;
}

/* Until all of the batch is durable, outcomes too. */
static int settle(struct target *target) {
  for (;;) {
    uint64_t now_ms = io_now_ns(target->io) / NS_PER_MS;
    wheel_advance(&target->wheel, now_ms, NULL, UINT32_MAX);
    spool_turn(target->spool, now_ms);
    if (target->error == E_OK) target->error = spool_failed(target->spool);
    if (target->told == target->count && (target->error != E_OK || spool_idle(target->spool))) break;
    uint64_t next_ms = wheel_next_ms(&target->wheel);
    const struct io_completion *done;
    unsigned count = io_wait(target->io, next_ms == WHEEL_NEVER ? UINT64_MAX : next_ms * NS_PER_MS, &done);
    for (unsigned i = 0; i < count; i++)
      if (done[i].token >> 56 == target->token_kind) spool_complete(target->spool, &done[i]);
  }
  target->count = target->told = 0;
  target->used = 0;
  return target->error;
}

/* *room: for a record that is no longer than `length` unpadded. */
static int make_room(struct target *target, size_t length, uint8_t **room) {
  size_t padded = (length + SPOOL_ALIGNMENT - 1) / SPOOL_ALIGNMENT * SPOOL_ALIGNMENT;
  must(padded <= SPOOL_RECORD_MAX);
  bool full = target->used + padded > BATCH_BYTES || target->count == BATCH_RECORDS;
  int error = full ? settle(target) : E_OK;
  *room = target->room + target->used;
  return error;
}

/* What was made there: a header without its length, and what it speaks of. */
static void append(struct target *target, struct record_header header) {
  uint8_t *room = target->room + target->used;
  unsigned padding = spool_padding(target->spool);
  size_t len = RECORD_HEADER_SIZE + (size_t)header.envelope_size + header.content_size;
  header.length = (uint32_t)((len + padding - 1) / padding * padding);
  record_header_encode(&header, room);
  memset(room + len, 0, header.length - len);
  struct copy *copy = &target->copies[target->count++];
  *copy = (struct copy){.slice = {room, header.length}, .target = target};
  copy->entry = (struct spool_entry){.slices = &copy->slice, .slices_count = 1, .store = true, .durable = copy_durable};
  target->used += (header.length + SPOOL_ALIGNMENT - 1) / SPOOL_ALIGNMENT * SPOOL_ALIGNMENT;
  spool_append(target->spool, &copy->entry);
}

/* ---- one directory that leaves ---- */

struct leaving {
  struct io *io;
  const struct adopt_options *options;
  unsigned from, to;
  const char *name; /* of the directory, as it is when it is opened */
  struct view *view;
  struct census census;
  struct target target;
  uint64_t wanted; /* live messages of the share that have to be copied */
  uint64_t copied, damaged;
  bool stray; /* there is a file that is none of a spool's own */
  struct fmt *why;
};

static int open_patiently(struct leaving *leaving, int (*open)(struct leaving *leaving, struct fmt *why)) {
  uint64_t give_up_ns = io_now_ns(leaving->io) + BUSY_WAIT_NS;
  for (;;) {
    struct fmt reason = *leaving->why;
    const struct io_completion *done;
    int error = open(leaving, &reason);
    if (error == E_OK) return error;
    if (error != E_BUSY || io_now_ns(leaving->io) >= give_up_ns) {
      *leaving->why = reason;
      return error;
    }
    io_wait(leaving->io, io_now_ns(leaving->io) + BUSY_STEP_NS, &done);
  }
}

static const char *path_in(const struct leaving *leaving, char *room, size_t size, const char *name) {
  int len = snprintf(room, size, "%s/%s", leaving->options->path, name);
  return len > 0 && (size_t)len < size ? room : NULL;
}

#define PATH_ROOM 4096

static int open_target(struct leaving *leaving, struct fmt *why) {
  char name[NAME_ROOM], path[PATH_ROOM];
  snprintf(name, sizeof name, "shard-%03u", leaving->to);
  struct spool_options options = leaving->options->spool;
  options.path = path_in(leaving, path, sizeof path, name);
  if (options.path == NULL) return complain(why, leaving->options->path, E_TOO_LONG);
  options.durability = SPOOL_SYNC;
  options.hold_outcomes = false;
  options.disk_max_bytes = options.disk_min_free_bytes =
      0; /* for as long as both are there: the source goes, and a start that is refused would help nobody */
  struct target *target = &leaving->target;
  wheel_init(&target->wheel, io_now_ns(leaving->io) / NS_PER_MS);
  return spool_open(&target->spool, leaving->io, &target->wheel, &options, target->token_kind, why);
}

/* What is there of this share already is from an earlier try: a message's record was appended when its parts were durable, so it is complete. */
static void mark_record(void *context, struct span record, struct spool_place place) {
  struct leaving *leaving = context;
  struct record_header header;
  uint64_t hash;
  int error = record_header_decode(&header, record.at, record.len, place.segment, &hash);
  must(error == E_OK);
  struct census_message *message = census_find(&leaving->census, header.id);
  if (message == NULL) return;
  if (header.type == RECORD_MESSAGE) message->marked = true;
  if (header.type == RECORD_PART && header.parts < message->parts_known) message->parts[header.parts].length = PART_COPIED;
}

static void mark_outcome(void *context, struct span outcome) {
  (void)context;
  (void)outcome;
}

static int begin_target(struct leaving *leaving) {
  struct spool_replay replay = {mark_record, mark_outcome, leaving};
  uint64_t damaged;
  int error = open_patiently(leaving, open_target);
  if (error != E_OK) return error;
  leaving->target.error = E_OK;
  leaving->target.count = leaving->target.told = 0;
  leaving->target.used = 0;
  return spool_replay(leaving->target.spool, &replay, &damaged, leaving->why);
}

static void end_target(struct leaving *leaving) {
  if (leaving->target.spool != NULL) spool_close(leaving->target.spool);
  leaving->target.spool = NULL;
}

static int copy_part(struct leaving *leaving, const struct census_message *message, uint32_t part) {
  uint8_t *room;
  struct record_header header;
  uint64_t hash;
  struct spool_place place = message->parts[part];
  if (place.length == PART_COPIED) return E_OK;
  int error = make_room(&leaving->target, place.length, &room);
  if (error == E_OK) error = view_read(leaving->view, place, room);
  if (error == E_OK) error = record_header_decode(&header, room, place.length, place.segment, &hash);
  if (error == E_OK) append(&leaving->target, header);
  return error;
}

/*
 * The envelope as it is now: recipients that have ended are left out, the others tell of their attempts. Not longer than it was. Only if its Reception may not be
 * written (`told`) does it look as if it had just come.
 */
static uint32_t write_envelope(const struct census_message *message, bool told, struct span old, uint8_t *room) {
  struct record_envelope envelope;
  struct record_recipient recipient;
  struct fmt out = fmt_over(room, old.len);
  unsigned encoded = 0;
  int error = record_envelope_decode(&envelope, &old);
  unsigned left_out = canary(CANARY_ADOPTED) && message->live > 1 ? 1 : 0;
  envelope.recipients = message->live - left_out;
  record_envelope_encode(&envelope, &out);
  for (unsigned i = 0; i < message->recipients && error == E_OK; i++) {
    error = record_recipient_decode(&recipient, &old);
    recipient.attempts = message->recipient[i].attempts;
    recipient.due_ms = message->recipient[i].due_ms == 0 && told ? RECORD_DUE_OLD : message->recipient[i].due_ms;
    recipient.notify |= message->recipient[i].marks;
    if (error == E_OK && !message->recipient[i].done && encoded++ < envelope.recipients) record_recipient_encode(&recipient, &out);
  }
  must(error == E_OK && !out.overflow); /* the census has read it */
  return (uint32_t)out.len;
}

static int copy_message(void *context, struct census_message *message, struct span record) {
  struct leaving *leaving = context;
  struct record_header header;
  uint64_t hash;
  uint8_t *room = NULL;
  int error = record_header_decode(&header, record.at, record.len, message->place.segment, &hash);
  for (uint32_t i = 0; i < message->parts_count && error == E_OK && !message->marked; i++) error = copy_part(leaving, message, i);
  if (error == E_OK && message->parts_count > 0) error = settle(&leaving->target); /* none may find no room where the record then finds some */
  if (error == E_OK) error = make_room(&leaving->target, record.len, &room);
  if (error != E_OK) return error;
  struct span envelope = span_of(record.at + RECORD_HEADER_SIZE, header.envelope_size);
  if (!message->marked) {
    uint8_t *at = room + RECORD_HEADER_SIZE;
    if (message->readable) {
      header.envelope_size = write_envelope(message, census_is_told(&leaving->census, message), envelope, at);
    } else {
      memcpy(at, envelope.at, envelope.len);
    }
    memcpy(at + header.envelope_size, envelope.at + envelope.len, header.content_size);
    append(&leaving->target, header);
    leaving->copied++;
  }
  return E_OK;
}

/* What is to be copied of the share; counts what cannot be. */
static void look_at_share(struct leaving *leaving) {
  uint32_t cursor = 0;
  leaving->wanted = 0;
  for (const struct census_message *message; (message = census_next(&leaving->census, &cursor)) != NULL;) {
    if (!census_is_live(message)) continue;
    if (census_is_whole(message)) {
      leaving->wanted++;
    } else {
      leaving->damaged++;
    }
  }
}

static int copy_share(struct leaving *leaving) {
  struct view_visitor visitor = {copy_message, leaving};
  int error = begin_target(leaving);
  if (error == E_OK) {
    error = view_visit(leaving->view, &leaving->census, &visitor, leaving->why);
    int settled = settle(&leaving->target); /* after an error, too: the kernel may have something of the batch */
    if (error == E_OK) error = settled;
    if (error != E_OK && leaving->why->len == 0) {
      char name[NAME_ROOM];
      snprintf(name, sizeof name, "copying the mail of shard %u to that of shard %u", leaving->from, leaving->to);
      complain(leaving->why, name, error);
    }
  }
  end_target(leaving);
  return error;
}

static int copy_all(struct leaving *leaving) {
  uint64_t seed, damaged = 0;
  struct target *target = &leaving->target;
  io_random(leaving->io, &seed, sizeof seed);
  census_init(&leaving->census, leaving->options->memory_bytes, seed);
  target->io = leaving->io;
  target->token_kind = leaving->options->token_kind;
  target->room = aligned_alloc(SPOOL_ALIGNMENT, BATCH_BYTES);
  target->copies = calloc(BATCH_RECORDS, sizeof *target->copies);
  int error = target->room == NULL || target->copies == NULL ? complain(leaving->why, "adopting a spool", E_NO_MEMORY) : E_OK;
  bool more = true;
  while (error == E_OK && more) {
    error = view_count(leaving->view, &leaving->census, &damaged, leaving->why);
    if (error == E_OK) look_at_share(leaving);
    if (error == E_OK && leaving->wanted > 0) error = copy_share(leaving);
    more = census_next_share(&leaving->census);
  }
  leaving->damaged += damaged;
  free(target->copies);
  free(target->room);
  census_fini(&leaving->census);
  return error;
}

/* ---- the life of its directory ---- */

static bool is_ours(const char *name) {
  size_t len = strlen(name);
  uint64_t slot;
  return strcmp(name, "lock") == 0 || (len == 12 && strcmp(name + 8, ".seg") == 0 && span_to_u64(span_of(name, 8), &slot));
}

static void look_for_strays(void *context, const char *name) { ((struct leaving *)context)->stray |= !is_ours(name); }

static int rename_directory(struct leaving *leaving, const char *from, const char *to) {
  char from_path[PATH_ROOM], to_path[PATH_ROOM];
  if (path_in(leaving, from_path, sizeof from_path, from) == NULL || path_in(leaving, to_path, sizeof to_path, to) == NULL) return E_TOO_LONG;
  int error = io_file_rename(leaving->io, from_path, to_path);
  return error == E_OK ? io_directory_sync(leaving->io, leaving->options->path) : error;
}

struct names {
  char (*name)[16];
  size_t count, capacity;
  bool failed;
};

static void collect_own(void *context, const char *name) {
  struct names *names = context;
  if (!is_ours(name)) return;
  if (names->count == names->capacity) {
    size_t capacity = names->capacity * 2 + 64;
    char(*grown)[16] = realloc(names->name, capacity * sizeof *grown);
    names->failed |= grown == NULL;
    if (grown == NULL) return;
    names->name = grown;
    names->capacity = capacity;
  }
  memcpy(names->name[names->count++], name, strlen(name) + 1);
}

/* Nothing in it counts: its name says so. Files first, durably, so that none can come back into a new directory of that name. */
static int remove_left(struct leaving *leaving, const char *name) {
  char path[PATH_ROOM], file[PATH_ROOM + 16];
  struct names names = {0};
  if (path_in(leaving, path, sizeof path, name) == NULL) return E_TOO_LONG;
  int error = io_directory_list(leaving->io, path, collect_own, &names);
  if (error == E_OK && names.failed) error = E_NO_MEMORY;
  for (size_t i = 0; i < names.count && error == E_OK; i++) {
    snprintf(file, sizeof file, "%s/%s", path, names.name[i]);
    error = io_file_remove(leaving->io, file);
  }
  free(names.name);
  if (error == E_OK) error = io_directory_sync(leaving->io, path);
  if (error == E_OK) error = io_directory_remove(leaving->io, path);
  if (error == E_EXISTS) return E_OK; /* somebody put a file there: not ours to remove, nor a reason not to start */
  return error == E_OK ? io_directory_sync(leaving->io, leaving->options->path) : error;
}

/* Its mail is copied: what is left of it goes, or is kept under a name that no start looks at. */
static int end_leaving(struct leaving *leaving, const char *name, char kept[NAME_ROOM]) {
  char path[PATH_ROOM];
  kept[0] = '\0';
  if (path_in(leaving, path, sizeof path, name) == NULL) return E_TOO_LONG;
  int error = io_directory_list(leaving->io, path, look_for_strays, leaving);
  if (error != E_OK) return error;
  if (leaving->damaged == 0 && !leaving->stray) {
    char left[NAME_ROOM];
    snprintf(left, sizeof left, "left-%03u-to-%03u", leaving->from, leaving->to);
    error = rename_directory(leaving, name, left);
    return error == E_OK ? remove_left(leaving, left) : error;
  }
  for (unsigned i = 1; i < KEPT_MAX; i++) {
    snprintf(kept, NAME_ROOM, "kept-%03u-%u", leaving->from, i);
    error = rename_directory(leaving, name, kept);
    if (error != E_EXISTS) break;
  }
  return error;
}

/* The lock shows that nobody runs it, and stays with us when it is renamed. */
static int open_source(struct leaving *leaving, struct fmt *why) {
  char path[PATH_ROOM];
  if (path_in(leaving, path, sizeof path, leaving->name) == NULL) return complain(why, leaving->options->path, E_TOO_LONG);
  int error = view_open(&leaving->view, leaving->io, path, true, why);
  if (error == E_OK && leaving->options->spool.durability == SPOOL_SYNC) view_expect_synced(leaving->view);
  return error;
}

static int adopt_one(struct leaving *leaving, bool is_missing) {
  char from[NAME_ROOM], name[NAME_ROOM], kept[NAME_ROOM];
  snprintf(from, sizeof from, "shard-%03u", leaving->from);
  snprintf(name, sizeof name, "leaving-%03u-to-%03u", leaving->from, leaving->to);
  leaving->name = is_missing ? from : name;
  int error = open_patiently(leaving, open_source);
  if (error != E_OK) return error;
  if (is_missing && (error = rename_directory(leaving, from, name)) != E_OK) complain(leaving->why, from, error);
  if (error == E_OK) error = copy_all(leaving);
  view_close(leaving->view);
  if (error != E_OK) return error;
  error = end_leaving(leaving, name, kept);
  if (error != E_OK) return complain(leaving->why, name, error);
  struct adoption adoption = {.from = leaving->from, .to = leaving->to, .messages = leaving->copied, .damaged = leaving->damaged};
  if (kept[0] != '\0') adoption.kept = kept;
  if (leaving->options->adopted != NULL) leaving->options->adopted(leaving->options->context, &adoption);
  return E_OK;
}

/* ---- which ---- */

enum found_kind { FOUND_LEAVING, FOUND_LEFT, FOUND_MISSING };

struct found {
  enum found_kind kind;
  unsigned from, to;
};

struct search {
  const struct adopt_options *options;
  struct found *found;
  size_t count, capacity;
  bool failed;
};

static void look_at_name(void *context, const char *name) {
  struct search *search = context;
  struct found found = {0};
  char ours[NAME_ROOM];
  if (sscanf(name, "leaving-%u-to-%u", &found.from, &found.to) == 2) {
    found.kind = FOUND_LEAVING;
    snprintf(ours, sizeof ours, "leaving-%03u-to-%03u", found.from, found.to);
  } else if (sscanf(name, "left-%u-to-%u", &found.from, &found.to) == 2) {
    found.kind = FOUND_LEFT;
    snprintf(ours, sizeof ours, "left-%03u-to-%03u", found.from, found.to);
  } else if (sscanf(name, "shard-%u", &found.from) == 1 && found.from >= search->options->shards) {
    found.kind = FOUND_MISSING;
    found.to = found.from % search->options->shards;
    snprintf(ours, sizeof ours, "shard-%03u", found.from);
  } else {
    return;
  }
  if (strcmp(name, ours) != 0 || found.to % search->options->shards != search->options->shard) return;
  if (search->count == search->capacity) {
    size_t capacity = search->capacity * 2 + 16;
    struct found *grown = realloc(search->found, capacity * sizeof *grown);
    search->failed |= grown == NULL;
    if (grown == NULL) return;
    search->found = grown;
    search->capacity = capacity;
  }
  search->found[search->count++] = found;
}

static int by_number(const void *a, const void *b) {
  const struct found *left = a, *right = b;
  return left->from != right->from ? (left->from < right->from ? -1 : 1) : left->to < right->to ? -1 : left->to > right->to;
}

static int go_on(struct io *io, const struct adopt_options *options, const struct found *found, struct fmt *why) {
  struct leaving leaving = {.io = io, .options = options, .from = found->from, .to = found->to, .why = why};
  if (found->kind != FOUND_LEFT) return adopt_one(&leaving, found->kind == FOUND_MISSING);
  char name[NAME_ROOM];
  snprintf(name, sizeof name, "left-%03u-to-%03u", found->from, found->to);
  int error = remove_left(&leaving, name);
  return error == E_OK ? E_OK : complain(why, name, error);
}

/* All of a kind: what was under way comes before anything new, and that may be the directory it went to. */
static int go_on_with(struct io *io, const struct adopt_options *options, enum found_kind kind, struct fmt *why) {
  struct search search = {.options = options};
  int error = io_directory_list(io, options->path, look_at_name, &search);
  if (error == E_OK && search.failed) error = E_NO_MEMORY;
  if (error != E_OK) complain(why, options->path, error);
  if (search.count > 0) qsort(search.found, search.count, sizeof *search.found, by_number);
  for (size_t i = 0; i < search.count && error == E_OK; i++)
    if (search.found[i].kind == kind) error = go_on(io, options, &search.found[i], why);
  free(search.found);
  return error;
}

int adopt_spools(struct io *io, const struct adopt_options *options, struct fmt *why) {
  int error = go_on_with(io, options, FOUND_LEFT, why);
  if (error == E_OK) error = go_on_with(io, options, FOUND_LEAVING, why);
  return error == E_OK ? go_on_with(io, options, FOUND_MISSING, why) : error;
}
