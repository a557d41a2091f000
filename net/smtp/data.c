#include "net/smtp/data.h"

#include "core/base/must.h"
#include "net/smtp/octets.h"

static const struct span received = SPAN("received:");

enum form { FORM_DATA, FORM_CHUNK };

/* Why the walk stopped before the end of what it was fed; in each case at a dot that begins a line. */
enum stop {
  STOP_NONE,
  STOP_END,         /* ".CRLF" */
  STOP_HELD_DOT,    /* "." and the bytes end: it may become ".CRLF" */
  STOP_HELD_DOT_CR, /* ".CR" and the bytes end */
  STOP_STUFF,       /* in a chunk: a dot has to be put before it */
};

/* What one walk is about. Offsets are from the first byte fed. */
struct walk {
  struct data_scan *scan;
  struct span bytes;
  enum form form;
  enum stop stop;
  size_t stop_at; /* where the content ends: at the dot it stopped at, or at the end of the bytes */
};

/* Where the walk is in the lines. Apart from the rest, and only ever copied, not pointed at, so that it stays in registers. */
struct lines {
  uint64_t after_cr;   /* 1: the byte before the next block is CR */
  uint64_t line_start; /* 1: the next block's first byte begins a line */
  int64_t line_at;     /* where the present line began; negative: in an earlier feed */
  int64_t longest;     /* line */
};

void data_scan_init(struct data_scan *scan) { *scan = (struct data_scan){._line_start = true, ._in_header = true}; }

/* Matches "Received:" from byte `at` of the feed, `matched` bytes of it being matched before. Returns what is matched when the feed ends
 * meanwhile, else 0. */
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

static enum stop stop_at_dot(const struct walk *w, size_t dot) {
  if (w->form == FORM_CHUNK) return STOP_STUFF;
  if (dot + 1 == w->bytes.len) return STOP_HELD_DOT;
  if (w->bytes.at[dot + 1] != '\r') return STOP_NONE;
  if (dot + 2 == w->bytes.len) return STOP_HELD_DOT_CR;
  return w->bytes.at[dot + 2] == '\n' ? STOP_END : STOP_NONE;
}

/* Looks at the dots that begin lines in the block at `at`. Returns how many octets of it are content before the walk stops; `len` if it does not. */
static size_t walk_dots(struct walk *w, uint64_t dots, size_t at, size_t len) {
  for (; dots != 0; dots &= dots - 1) {
    size_t dot = (size_t)__builtin_ctzll(dots);
    w->stop = stop_at_dot(w, at + dot);
    if (w->stop != STOP_NONE) {
      w->stop_at = at + dot;
      return dot;
    }
    w->scan->leading_dot = true;
    w->scan->stuffed++;
  }
  return len;
}

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Measures the lines that end in the block. Lines within the block can only matter while no line was longer than a block. */
ALWAYS_INLINE struct lines measure_lines(struct lines l, uint64_t line_ends, size_t at) {
  int64_t first = (int64_t)at + __builtin_ctzll(line_ends), last = (int64_t)at + 63 - __builtin_clzll(line_ends);
  int64_t length = first - 1 - l.line_at; /* the CR is no part of it */
  if (length > l.longest) l.longest = length;
  if (unlikely(l.longest < OCTETS_BLOCK_SIZE)) {
    while ((line_ends &= line_ends - 1) != 0) {
      int64_t next = (int64_t)at + __builtin_ctzll(line_ends);
      if (next - first - 2 > l.longest) l.longest = next - first - 2;
      first = next;
    }
  }
  l.line_at = last + 1;
  return l;
}

/* There is a NUL among these octets of one block, or something above 127, or both. */
static void note_odd(struct data_scan *scan, const uint8_t *octets, size_t len) {
  uint64_t any = 0, zero = 0, word = OCTETS_EVERY(' ');
  for (size_t at = 0; at < len; at += sizeof word) {
    memcpy(&word, octets + at, len - at < sizeof word ? len - at : sizeof word);
    any |= word;
    zero |= octets_zero(word);
  }
  scan->eight_bit |= (any & OCTETS_EVERY(0x80)) != 0;
  scan->nul |= zero != 0;
}

/* Takes in the first `len` octets of the block at `at`, which are content. */
ALWAYS_INLINE struct lines take_in(struct walk *w, struct lines l, struct octets o, size_t at, size_t len, bool header) {
  uint64_t valid = ~UINT64_C(0) >> (OCTETS_BLOCK_SIZE - len);
  uint64_t after_cr = o.cr << 1 | l.after_cr;
  uint64_t line_ends = o.lf & after_cr & valid;
  uint64_t bare = (after_cr ^ o.lf) & valid; /* wherever one follows a CR, and nowhere else, there is an LF */
  if (unlikely((bare | o.odd) != 0)) {
    w->scan->bare |= bare != 0;
    if (o.odd != 0) note_odd(w->scan, w->bytes.at + at, len);
  }
  if (header) walk_header(w, (line_ends << 1 | l.line_start) & valid, at);
  l.after_cr = o.cr >> (len - 1) & 1;
  l.line_start = line_ends >> (len - 1) & 1;
  return line_ends != 0 ? measure_lines(l, line_ends, at) : l;
}

/* The dots that begin lines. */
ALWAYS_INLINE uint64_t leading_dots(struct lines l, struct octets o) { return ((o.lf & (o.cr << 1 | l.after_cr)) << 1 | l.line_start) & o.dot; }

/* The first `len` octets of the block at `at`, by a copy in which what is no content is replaced by what has no meaning. */
static struct octets find_in_part(const struct walk *w, size_t at, size_t len) {
  uint8_t block[OCTETS_BLOCK_SIZE];
  memset(block, ' ', sizeof block);
  memcpy(block, w->bytes.at + at, len);
  return octets_anywhere(block);
}

/* Takes in less than a block. */
static struct lines walk_part(struct walk *w, struct lines l, size_t at, size_t len) {
  if (len == 0) return l;
  struct octets o = find_in_part(w, at, len);
  return take_in(w, l, o, at, len, w->scan->_in_header);
}

/* The last octets, too few for a block. */
static struct lines walk_rest(struct walk *w, struct lines l, size_t at, size_t len) {
  uint64_t dots = leading_dots(l, find_in_part(w, at, len));
  return walk_part(w, l, at, dots != 0 ? walk_dots(w, dots, at, len) : len);
}

/* Walks over whole blocks from *at on, while the header section lasts, or after it. *at is then where the walk has to go on. */
ALWAYS_INLINE struct lines walk_whole(struct walk *w, struct lines l, octets_find *find, size_t *at, bool header) {
  const uint8_t *bytes = w->bytes.at;
  size_t here = *at, end = w->bytes.len & ~(size_t)(OCTETS_BLOCK_SIZE - 1);
  for (; here < end && (!header || w->scan->_in_header); here += OCTETS_BLOCK_SIZE) {
    struct octets o = find(bytes + here);
    uint64_t dots = leading_dots(l, o);
    if (unlikely(dots != 0)) {
      size_t len = walk_dots(w, dots, here, OCTETS_BLOCK_SIZE);
      if (w->stop != STOP_NONE) {
        l = walk_part(w, l, here, len);
        break;
      }
    }
    l = take_in(w, l, o, here, OCTETS_BLOCK_SIZE, header);
  }
  *at = here;
  return l;
}

/* Lines of the body that are among these are those of the block in which the header ends: too short to matter. Of an unfinished line the last octet may be the
 * CR of its end. */
static void note_header_lines(struct data_scan *scan, int64_t longest) {
  scan->long_header |= longest > DATA_HEADER_LINE_MAX || (scan->_in_header && scan->_line > DATA_HEADER_LINE_MAX + 1);
}

/* Walks over the bytes up to their end, or to where it has to stop. */
ALWAYS_INLINE void walk_bytes(struct walk *w, octets_find *find) {
  struct data_scan *scan = w->scan;
  struct lines l = {.after_cr = scan->_after_cr, .line_start = scan->_line_start, .line_at = -(int64_t)scan->_line, .longest = scan->longest_line};
  size_t at = 0;
  bool header = scan->_in_header;
  l = walk_whole(w, l, find, &at, true);
  int64_t longest = l.longest;
  if (w->stop == STOP_NONE) l = walk_whole(w, l, find, &at, false);
  bool still_header = scan->_in_header;
  if (w->stop == STOP_NONE && at < w->bytes.len) l = walk_rest(w, l, at, w->bytes.len - at);
  scan->longest_line = l.longest < UINT32_MAX ? (uint32_t)l.longest : UINT32_MAX;
  scan->_line = (uint64_t)((int64_t)w->stop_at - l.line_at);
  scan->_after_cr = l.after_cr != 0;
  scan->_line_start = l.line_start != 0;
  if (header) note_header_lines(scan, still_header ? l.longest : longest);
}

#if defined(__x86_64__)
OCTETS_AVX512 static void walk_avx512(struct walk *w) { walk_bytes(w, octets_avx512); }
OCTETS_AVX2 static void walk_avx2(struct walk *w) { walk_bytes(w, octets_avx2); }
static void walk_anywhere(struct walk *w) { walk_bytes(w, octets_anywhere); }

static void walk_best(struct walk *w) {
  if (__builtin_cpu_supports("avx512bw")) {
    walk_avx512(w);
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) {
    walk_avx2(w);
  } else {
    walk_anywhere(w);
  }
}
#else
static void walk_best(struct walk *w) { walk_bytes(w, octets_anywhere); }
#endif

static struct walk walk(struct data_scan *scan, struct span bytes, enum form form) {
  struct walk w = {.scan = scan, .bytes = bytes, .form = form, .stop_at = bytes.len};
  if (scan->_name_matched > 0) scan->_name_matched = match_received(&w, 0, scan->_name_matched);
  walk_best(&w);
  return w;
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
  struct walk w = walk(scan, *in, FORM_DATA);
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
    struct walk w = walk(scan, *in, FORM_CHUNK);
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
  scan->long_header |= scan->_in_header && scan->_line > DATA_HEADER_LINE_MAX;
  scan->_line = 0;
  scan->_line_start = true;
  scan->stuffed += 2;
  return SPAN("\r\n");
}
