/*
 * Two buffers: `filling` takes lines, `writing` is on its way to the disk (or waits there for a disk that fails). They swap when `writing` is empty
 * and `filling` is worth a write. A write that failed is cut off the file again and its buffer kept for the next try, in a new file; so nothing is
 * lost or doubled as long as the buffers hold out.
 */
#include "core/event/writer.h"

#include <stdlib.h>

#include "core/base/error.h"

/*
 * Of each buffer. At 30,000 messages a second a shard writes about 30 MB of lines a second, so the two bridge half a second in which the disk takes
 * nothing, as happens when the page cache is flushed. Memory is only touched as far as it is filled: 64 KiB of each as long as the disk keeps up.
 */
#define BUFFER_SIZE (8u << 20)
#define PATH_SIZE 4096
#define STAMP_DIGITS 13     /* milliseconds since 1970 have 13 digits until 2286 */
#define STAMP_DIGITS_MAX 15 /* more is no name of ours */
#define OLDEST_MAX 32       /* files removed after one look at the directory */

struct buffer {
  uint8_t *at;
  size_t len;
  uint64_t lines;
};

struct event_writer {
  struct io *io;
  struct counters *counters;
  char *directory; /* NULL: events are only counted */
  unsigned shard;
  unsigned files_max;
  uint64_t file_size_max;
  uint64_t token;
  io_file file;
  uint64_t stamp; /* of the present file, or of the newest there was */
  uint64_t file_size;
  struct buffer filling, writing;
  struct io_slice slice; /* of `writing`: the kernel's while a write is under way */
  bool in_flight;
  bool gathering;    /* since_ms is set */
  uint64_t since_ms; /* the first turn that saw the oldest line of `filling` */
  uint64_t now_ms, retry_ms;
  uint64_t gathered; /* lines, ever */
  uint64_t passed;   /* up to here they are settled though the disk did not take them in time */
  uint64_t mark;     /* ... and up to here they will be, EVENT_STALL_MS after mark_ms */
  uint64_t mark_ms;
  int error; /* of the last write or file; E_OK: it was done */
};

/* ---- names ---- */

static const char name_prefix[] = "ringpost-", name_suffix[] = ".jsonl";

/* The path of the file with this stamp; false if it is too long. */
static bool path_of(const struct event_writer *writer, uint64_t stamp, char *room) {
  struct fmt path = fmt_over(room, PATH_SIZE - 1);
  fmt_text(&path, writer->directory);
  fmt_char(&path, '/');
  fmt_text(&path, name_prefix);
  fmt_u64(&path, writer->shard);
  fmt_char(&path, '-');
  fmt_u64_padded(&path, stamp, STAMP_DIGITS);
  fmt_text(&path, name_suffix);
  room[path.len] = '\0';
  return !path.overflow;
}

/* Is this a file of the shard, and which? */
static bool name_parse(const char *text, unsigned shard, uint64_t *stamp) {
  struct span name = span_of_text(text), prefix = span_of_text(name_prefix), suffix = span_of_text(name_suffix);
  if (name.len < prefix.len + suffix.len || !span_equal(span_first(name, prefix.len), prefix)) return false;
  if (!span_equal(span_skip(name, name.len - suffix.len), suffix)) return false;
  struct span middle = span_skip(span_first(name, name.len - suffix.len), prefix.len);
  ptrdiff_t dash = span_find(middle, '-');
  uint64_t number;
  if (dash < 0 || !span_to_u64(span_first(middle, (size_t)dash), &number) || number != shard) return false;
  struct span digits = span_skip(middle, (size_t)dash + 1);
  return digits.len >= STAMP_DIGITS && digits.len <= STAMP_DIGITS_MAX && span_to_u64(digits, stamp);
}

/* One look at the directory: how many files of ours, the newest, and some of the oldest in order. */
struct survey {
  unsigned shard;
  unsigned count;
  uint64_t newest;
  uint64_t oldest[OLDEST_MAX];
  unsigned oldest_count;
};

static void survey_see(void *context, const char *name) {
  struct survey *survey = context;
  uint64_t stamp;
  if (!name_parse(name, survey->shard, &stamp)) return;
  survey->count++;
  if (stamp > survey->newest) survey->newest = stamp;
  unsigned place = survey->oldest_count;
  while (place > 0 && survey->oldest[place - 1] > stamp) place--;
  if (place == OLDEST_MAX) return;
  if (survey->oldest_count < OLDEST_MAX) survey->oldest_count++;
  memmove(survey->oldest + place + 1, survey->oldest + place, (survey->oldest_count - place - 1) * sizeof survey->oldest[0]);
  survey->oldest[place] = stamp;
}

/* Makes room for one more file within files_max, and learns the newest stamp. What cannot be removed stays. */
static int remove_oldest(struct event_writer *writer) {
  unsigned keep = writer->files_max == 0 ? UINT32_MAX : writer->files_max - 1, left;
  do {
    struct survey survey = {.shard = writer->shard};
    int error = io_directory_list(writer->io, writer->directory, survey_see, &survey);
    if (error != E_OK) return error;
    if (survey.newest > writer->stamp) writer->stamp = survey.newest;
    left = survey.count;
    for (unsigned i = 0; i < survey.oldest_count && left > keep; i++, left--) {
      char path[PATH_SIZE];
      if (!path_of(writer, survey.oldest[i], path) || io_file_remove(writer->io, path) != E_OK) return E_OK;
    }
  } while (left > keep);
  return E_OK;
}

/* ---- files ---- */

static int open_file(struct event_writer *writer) {
  if (writer->files_max > 0 || writer->stamp == 0) {
    int error = remove_oldest(writer);
    if (error != E_OK) return error;
  }
  uint64_t wall_ms = io_wall_ms(writer->io), stamp = wall_ms > writer->stamp ? wall_ms : writer->stamp + 1;
  char path[PATH_SIZE];
  if (!path_of(writer, stamp, path)) return E_TOO_LONG;
  int error = io_file_open(writer->io, path, IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_EXCLUSIVE | IO_FILE_APPEND, &writer->file);
  if (error != E_OK) {
    writer->file = IO_NONE;
    return error;
  }
  writer->stamp = stamp;
  writer->file_size = 0;
  return E_OK;
}

/* A file that got no line is taken away again: neither restarts nor a failing disk leave a trail of empty ones. */
static void close_file(struct event_writer *writer) {
  if (writer->file == IO_NONE) return;
  io_file_close(writer->io, writer->file);
  writer->file = IO_NONE;
  char path[PATH_SIZE];
  if (writer->file_size > 0 || !path_of(writer, writer->stamp, path)) return;
  int error = io_file_remove(writer->io, path);
  (void)error; /* an empty file that stays does no harm */
}

/* Makes sure there is a file that may take `len` more bytes. */
static int ready_file(struct event_writer *writer, size_t len) {
  bool full = writer->file_size_max > 0 && writer->file_size > 0 && writer->file_size + len > writer->file_size_max;
  if (full) close_file(writer);
  return writer->file == IO_NONE ? open_file(writer) : E_OK;
}

/* ---- buffers ---- */

static void buffer_empty(struct buffer *buffer) { buffer->len = buffer->lines = 0; }

static void lose(struct event_writer *writer, struct buffer *buffer) {
  count_add(writer->counters, COUNT_EVENTS_LOST, buffer->lines);
  buffer_empty(buffer);
}

static void swap(struct event_writer *writer) {
  struct buffer empty = writer->writing;
  writer->writing = writer->filling;
  writer->filling = empty;
  writer->gathering = false;
}

/* Starts the write of `writing`, unless the disk failed less than a second ago. */
static void start_write(struct event_writer *writer) {
  if (writer->now_ms < writer->retry_ms) return;
  writer->error = ready_file(writer, writer->writing.len);
  if (writer->error != E_OK) {
    writer->retry_ms = writer->now_ms + EVENT_RETRY_MS;
    return;
  }
  writer->slice = (struct io_slice){writer->writing.at, writer->writing.len};
  writer->in_flight = true;
  io_write(writer->io, writer->file, &writer->slice, 1, writer->file_size, 0, writer->token);
}

/* Part of the buffer may be in the file: it is cut off again. If even that fails nobody knows what a reader sees, and writing the lines again might
   double them. */
static void write_failed(struct event_writer *writer) {
  if (io_file_truncate(writer->io, writer->file, writer->file_size) != E_OK) lose(writer, &writer->writing);
  close_file(writer);
  writer->retry_ms = writer->now_ms + EVENT_RETRY_MS;
}

static void write_ended(struct event_writer *writer, int64_t result) {
  writer->in_flight = false;
  writer->error = result == (int64_t)writer->writing.len ? E_OK : result < 0 ? (int)result : E_IO;
  if (writer->error != E_OK) {
    write_failed(writer);
    return;
  }
  writer->file_size += writer->writing.len;
  buffer_empty(&writer->writing);
}

/* ---- lines ---- */

static bool gather(struct event_writer *writer, const struct event *event) {
  struct buffer *buffer = &writer->filling;
  size_t room = BUFFER_SIZE - buffer->len;
  struct fmt line = fmt_over(buffer->at + buffer->len, room < EVENT_SIZE_MAX ? room : EVENT_SIZE_MAX);
  event_format(event, &line);
  if (line.overflow) return false;
  buffer->len += line.len;
  buffer->lines++;
  writer->gathered++;
  return true;
}

static void write_line(struct event_writer *writer, const struct event *event);

/* Halves, until they fit. */
static void write_halves(struct event_writer *writer, const struct event *event) {
  struct event first = *event, second = *event;
  first.more_recipients_count = (event->more_recipients_count - 1) / 2;
  unsigned next = first.more_recipients_count;
  second.recipient = event->more_recipients[next];
  second.more_recipients = event->more_recipients + next + 1;
  second.more_recipients_count = event->more_recipients_count - next - 1;
  write_line(writer, &first);
  write_line(writer, &second);
}

static void write_line(struct event_writer *writer, const struct event *event) {
  if (likely(gather(writer, event))) return;
  if (BUFFER_SIZE - writer->filling.len < EVENT_SIZE_MAX && writer->writing.len == 0) {
    swap(writer);
    start_write(writer);
    if (gather(writer, event)) return;
  }
  if (BUFFER_SIZE - writer->filling.len >= EVENT_SIZE_MAX && event->more_recipients_count > 0) {
    write_halves(writer, event);
  } else {
    count_add(writer->counters, COUNT_EVENTS_LOST, 1);
  }
}

void event_write(struct event_writer *writer, const struct event *event) {
  count_add(writer->counters, COUNT_EVENTS, 1);
  if (writer->directory != NULL) write_line(writer, event);
}

/* ---- the shard's turn ---- */

static bool worth_a_write(const struct event_writer *writer, bool now) {
  if (writer->filling.len == 0) return false;
  return now || writer->filling.len >= EVENT_FLUSH_BYTES || writer->now_ms - writer->since_ms >= EVENT_FLUSH_MS;
}

uint64_t event_writer_gathered(const struct event_writer *writer) { return writer->gathered; }

uint64_t event_writer_settled(const struct event_writer *writer) {
  uint64_t written = writer->gathered - writer->writing.lines - writer->filling.lines;
  return written > writer->passed ? written : writer->passed;
}

/* A disk that fails or stalls keeps nobody waiting for ever. */
static void watch_stall(struct event_writer *writer) {
  if (writer->mark > event_writer_settled(writer) && writer->now_ms - writer->mark_ms >= EVENT_STALL_MS) writer->passed = writer->mark;
  if (writer->mark > event_writer_settled(writer)) return;
  writer->mark = writer->gathered;
  writer->mark_ms = writer->now_ms;
}

void event_writer_turn(struct event_writer *writer, uint64_t now_ms, bool now) {
  writer->now_ms = now_ms;
  watch_stall(writer);
  if (writer->filling.len > 0 && !writer->gathering) {
    writer->gathering = true;
    writer->since_ms = now_ms;
  }
  if (writer->in_flight) return;
  if (writer->writing.len == 0 && worth_a_write(writer, now)) swap(writer);
  if (writer->writing.len > 0) start_write(writer);
}

static uint64_t write_due_ms(const struct event_writer *writer) {
  if (writer->in_flight) return UINT64_MAX; /* its completion comes first */
  if (writer->writing.len > 0) return writer->retry_ms;
  if (writer->filling.len == 0) return UINT64_MAX;
  return writer->gathering ? writer->since_ms + EVENT_FLUSH_MS : 0;
}

uint64_t event_writer_due_ms(const struct event_writer *writer) {
  uint64_t due_ms = write_due_ms(writer);
  uint64_t stall_ms = writer->mark > event_writer_settled(writer) ? writer->mark_ms + EVENT_STALL_MS : UINT64_MAX;
  return due_ms < stall_ms ? due_ms : stall_ms;
}

void event_writer_complete(struct event_writer *writer, const struct io_completion *completion) {
  must(writer->in_flight && completion->token == writer->token);
  write_ended(writer, completion->result);
}

bool event_writer_idle(const struct event_writer *writer) { return !writer->in_flight && writer->writing.len == 0 && writer->filling.len == 0; }

/* ---- life ---- */

static void free_writer(struct event_writer *writer) {
  free(writer->filling.at);
  free(writer->writing.at);
  free(writer->directory);
  free(writer);
}

static struct event_writer *new_writer(struct io *io, const struct event_writer_options *options, uint8_t token_kind) {
  struct event_writer *writer = calloc(1, sizeof *writer);
  if (writer == NULL) return NULL;
  *writer = (struct event_writer){.io = io,
                                  .counters = options->counters,
                                  .shard = options->shard,
                                  .files_max = options->files_max,
                                  .file_size_max = options->file_size_bytes,
                                  .token = (uint64_t)token_kind << 56,
                                  .file = IO_NONE};
  if (options->path == NULL) return writer;
  writer->directory = strdup(options->path);
  writer->filling.at = malloc(BUFFER_SIZE);
  writer->writing.at = malloc(BUFFER_SIZE);
  if (writer->directory != NULL && writer->filling.at != NULL && writer->writing.at != NULL) return writer;
  free_writer(writer);
  return NULL;
}

int event_writer_open(struct event_writer **writer, struct io *io, const struct event_writer_options *options, uint8_t token_kind, struct fmt *why) {
  struct event_writer *made = new_writer(io, options, token_kind);
  int error = made == NULL ? E_NO_MEMORY : E_OK;
  if (error == E_OK && made->directory != NULL) {
    error = io_directory_make(io, made->directory);
    if (error == E_OK) error = open_file(made);
  }
  if (error == E_OK) {
    *writer = made;
    return E_OK;
  }
  fmt_text(why, "events.path ");
  fmt_text(why, options->path == NULL ? "" : options->path);
  fmt_text(why, ": ");
  fmt_text(why, error_text(error));
  if (made != NULL) free_writer(made);
  return error;
}

static void wait_for_write(struct event_writer *writer) {
  while (writer->in_flight) {
    const struct io_completion *done;
    unsigned count = io_wait(writer->io, UINT64_MAX, &done);
    for (unsigned i = 0; i < count; i++)
      if (done[i].token == writer->token) write_ended(writer, done[i].result);
  }
}

static void write_out(struct event_writer *writer, struct buffer *buffer) {
  if (buffer->len == 0) return;
  int error = ready_file(writer, buffer->len);
  if (error == E_OK) error = io_file_write_now(writer->io, writer->file, buffer->at, buffer->len, writer->file_size);
  if (error == E_OK) {
    writer->file_size += buffer->len;
  } else {
    if (writer->file != IO_NONE && io_file_truncate(writer->io, writer->file, writer->file_size) != E_OK)
      writer->file_size += buffer->len; /* half a line stays */
    lose(writer, buffer);
  }
}

void event_writer_close(struct event_writer *writer) {
  if (writer == NULL) return;
  wait_for_write(writer);
  write_out(writer, &writer->writing);
  write_out(writer, &writer->filling);
  close_file(writer);
  free_writer(writer);
}

int event_writer_error(const struct event_writer *writer) { return writer->error; }
