#include "net/smtp/data.h"

#include "core/base/must.h"
#include "net/smtp/octets.h"

static const struct span received = SPAN("received:");

enum form { FORM_DATA, FORM_CHUNK };

/* Why the walk stopped before the end of what it was fed; in each case at a dot that begins a line. */
enum stop {
  STOP_NONE,
  STOP_END,       /* ".CRLF" */
  STOP_HELD_DOT,  /* "." and the bytes end: it may become ".CRLF" */
  STOP_HELD_DOT_CR, /* ".CR" and the bytes end */
  STOP_STUFF,     /* in a chunk: a dot has to be put before it */
};

/* The scanner's state while it walks one feed. Offsets are from the feed's first byte. */
struct walk {
  struct data_scan *scan;
  struct span bytes;
  int64_t line_at;     /* where the present line began; negative: in an earlier feed */
  int64_t longest;     /* line */
  uint64_t after_cr;   /* 1: the byte before the next block is CR */
  uint64_t line_start; /* 1: the next block's first byte begins a line */
  uint64_t bare;       /* a bit for each bare CR or LF, of whatever block */
  enum stop stop;
  size_t stop_at;
};

void data_scan_init(struct data_scan *scan) { *scan = (struct data_scan){._line_start = true, ._in_header = true}; }

/* Matches "Received:" from byte `at` of the feed, `matched` bytes of it being matched before. Returns what is matched when the feed ends meanwhile, else 0. */
static uint8_t match_received(struct walk *w, size_t at, uint8_t matched) {
  while (at < w->bytes.len && ascii_lower(w->bytes.at[at]) == received.at[matched]) {
    at++;
    if (++matched < received.len) continue;
    w->scan->received_headers++;
    return 0;
  }
  return at == w->bytes.len ? matched : 0;
}

/* Looks at the beginnings of header lines. The first empty line ends the header section. */
static void walk_header(struct walk *w, uint64_t line_starts, size_t at) {
  for (; line_starts != 0; line_starts &= line_starts - 1) {
    size_t line = at + (size_t)__builtin_ctzll(line_starts);
    if (w->bytes.at[line] == '\r') {
      w->scan->_in_header = false;
      return;
    }
    if ((w->bytes.at[line] | 0x20) == 'r') w->scan->_name_matched = match_received(w, line, 0);
  }
}

static enum stop stop_at_dot(const struct walk *w, size_t dot, enum form form) {
  if (form == FORM_CHUNK) return STOP_STUFF;
  if (dot + 1 == w->bytes.len) return STOP_HELD_DOT;
  if (w->bytes.at[dot + 1] != '\r') return STOP_NONE;
  if (dot + 2 == w->bytes.len) return STOP_HELD_DOT_CR;
  return w->bytes.at[dot + 2] == '\n' ? STOP_END : STOP_NONE;
}

/* Looks at the dots that begin lines in the block at `at`. Returns how many octets of it are content before the walk stops; `len` if it does not. */
static size_t walk_dots(struct walk *w, uint64_t dots, size_t at, size_t len, enum form form) {
  for (; dots != 0; dots &= dots - 1) {
    size_t dot = (size_t)__builtin_ctzll(dots);
    w->stop = stop_at_dot(w, at + dot, form);
    if (w->stop != STOP_NONE) {
      w->stop_at = at + dot;
      return dot;
    }
    w->scan->leading_dot = true;
    w->scan->stuffed++;
  }
  return len;
}

/* Measures the lines that end in the block. Lines within the block can only matter while no line was longer than a block. */
static inline void walk_lines(struct walk *w, uint64_t line_ends, size_t at) {
  int64_t first = (int64_t)at + __builtin_ctzll(line_ends), last = (int64_t)at + 63 - __builtin_clzll(line_ends);
  int64_t length = first - 1 - w->line_at; /* the CR is no part of it */
  if (length > w->longest) w->longest = length;
  if (unlikely(w->longest < OCTETS_BLOCK_SIZE)) {
    while ((line_ends &= line_ends - 1) != 0) {
      int64_t next = (int64_t)at + __builtin_ctzll(line_ends);
      if (next - first - 2 > w->longest) w->longest = next - first - 2;
      first = next;
    }
  }
  w->line_at = last + 1;
}

/* Walks over a block of `len` octets at `at`. False: it stopped. */
static inline bool walk_block(struct walk *w, const struct octets_block *block, size_t at, size_t len, enum form form) {
  uint64_t after_cr = block->cr << 1 | w->after_cr;
  uint64_t line_ends = block->lf & after_cr;
  uint64_t line_starts = line_ends << 1 | w->line_start;
  if (unlikely((line_starts & block->dot) != 0)) len = walk_dots(w, line_starts & block->dot, at, len, form);
  if (likely(len > 0)) {
    uint64_t valid = ~UINT64_C(0) >> (OCTETS_BLOCK_SIZE - len);
    line_ends &= valid;
    w->bare |= (after_cr ^ block->lf) & valid; /* wherever one follows a CR, and nowhere else, there is an LF */
    w->after_cr = block->cr >> (len - 1) & 1;
    w->line_start = line_ends >> (len - 1) & 1;
    if (unlikely(w->scan->_in_header)) walk_header(w, line_starts & valid, at);
    if (line_ends != 0) walk_lines(w, line_ends, at);
  }
  return w->stop == STOP_NONE;
}

static void note_octets(struct data_scan *scan, const struct octets_batch *batch) {
  scan->nul |= batch->nul;
  scan->eight_bit |= batch->high;
}

static inline __attribute__((always_inline)) void walk_bytes(struct walk *w, enum form form) {
  struct octets_batch batch;
  for (size_t at = 0; at < w->bytes.len; at += OCTETS_BATCH_SIZE) {
    struct span part = span_first(span_skip(w->bytes, at), OCTETS_BATCH_SIZE);
    octets_find(&batch, part);
    for (size_t block = 0; block < part.len; block += OCTETS_BLOCK_SIZE) {
      size_t len = part.len - block < OCTETS_BLOCK_SIZE ? part.len - block : OCTETS_BLOCK_SIZE;
      if (unlikely(!walk_block(w, &batch.block[block / OCTETS_BLOCK_SIZE], at + block, len, form))) {
        if (batch.nul || batch.high) octets_find(&batch, span_first(part, w->stop_at - at)); /* what follows the end is no content */
        note_octets(w->scan, &batch);
        return;
      }
    }
    note_octets(w->scan, &batch);
  }
}

static struct walk walk_begin(struct data_scan *scan, struct span bytes) {
  struct walk w = {.scan = scan, .bytes = bytes, .line_at = -(int64_t)scan->_line, .longest = scan->longest_line,
                   .after_cr = scan->_after_cr, .line_start = scan->_line_start, .stop_at = bytes.len};
  if (scan->_name_matched > 0) scan->_name_matched = match_received(&w, 0, scan->_name_matched);
  return w;
}

static void walk_end(struct walk *w) {
  struct data_scan *scan = w->scan;
  scan->bare |= w->bare != 0;
  scan->longest_line = w->longest < UINT32_MAX ? (uint32_t)w->longest : UINT32_MAX;
  scan->_line = (uint64_t)((int64_t)w->stop_at - w->line_at);
  scan->_after_cr = w->after_cr != 0;
  scan->_line_start = w->line_start != 0;
}

static void take(struct span *in, size_t len) { *in = span_skip(*in, len); }

/* The bytes that were held back turn out to be content: a stuffed line that begins with them. */
static struct span release(struct data_scan *scan) {
  struct span held = span_first(SPAN(".\r"), scan->_held);
  scan->leading_dot = true;
  scan->stuffed++;
  scan->_line = held.len;
  scan->_line_start = false;
  scan->_after_cr = held.len == 2;
  scan->_held = 0;
  return held;
}

/* Goes on with ".CRLF" where the last feed ended within it. True when it is complete. */
static bool resolve_held(struct data_scan *scan, struct span *in, struct span *content) {
  while (in->len > 0) {
    uint8_t next = in->at[0];
    if (next != (scan->_held == 1 ? '\r' : '\n')) {
      *content = release(scan);
      return false;
    }
    take(in, 1);
    if (next == '\n') return true;
    scan->_held = 2;
  }
  return false;
}

bool data_scan_feed(struct data_scan *scan, struct span *in, struct span *content) {
  *content = span_of(NULL, 0);
  if (unlikely(scan->_held > 0)) return resolve_held(scan, in, content);
  struct walk w = walk_begin(scan, *in);
  walk_bytes(&w, FORM_DATA);
  walk_end(&w);
  *content = span_first(*in, w.stop_at);
  take(in, w.stop == STOP_END ? w.stop_at + 3 : in->len);
  if (w.stop == STOP_HELD_DOT) scan->_held = 1;
  if (w.stop == STOP_HELD_DOT_CR) scan->_held = 2;
  return w.stop == STOP_END;
}

static struct span stuff(struct data_scan *scan) {
  scan->_stuff = false;
  scan->leading_dot = true;
  scan->stuffed++;
  scan->_line = 1;
  scan->_line_start = false;
  return SPAN(".");
}

void data_scan_feed_chunk(struct data_scan *scan, struct span *in, struct span *content) {
  *content = span_of(NULL, 0);
  if (!scan->_stuff) {
    struct walk w = walk_begin(scan, *in);
    walk_bytes(&w, FORM_CHUNK);
    walk_end(&w);
    *content = span_first(*in, w.stop_at);
    take(in, w.stop_at);
    scan->_stuff = w.stop == STOP_STUFF;
  }
  if (scan->_stuff && content->len == 0) *content = stuff(scan);
}

struct span data_scan_finish(struct data_scan *scan) {
  if (scan->_after_cr) scan->bare = true;
  if (scan->_line_start || scan->bare) return span_of(NULL, 0);
  if (scan->_line > scan->longest_line) scan->longest_line = scan->_line < UINT32_MAX ? (uint32_t)scan->_line : UINT32_MAX;
  scan->_line = 0;
  scan->_line_start = true;
  scan->stuffed += 2;
  return SPAN("\r\n");
}
