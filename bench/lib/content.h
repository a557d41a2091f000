/*
 * content: what the load generator puts into a message, and how the sink finds out whether it came through whole.
 *
 * The header begins with a stamp, `X-Bench: run=<hex> seq=<n> sent=<ns CLOCK_MONOTONIC> of=<messages> rcpts=<n> body=<bytes>`; the body is a
 * function of seq and body size: printable lines of 78 characters with CRLF, cut from one block of text at a line chosen by seq,
 * and a last line that fills up to the exact size. No line has a dot, so the body is the same bytes on the wire under DATA and BDAT.
 * A relay may add header fields; one byte changed, lost or added in the body is found. Pure, but for the memory of the block.
 */
#ifndef BENCH_LIB_CONTENT_H
#define BENCH_LIB_CONTENT_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/span.h"

enum {
  CONTENT_LINE = 80, /* bytes with CRLF */
  CONTENT_BLOCK_LINES = 1024,
  CONTENT_HEADER_MAX = 8192, /* a header longer than this is passed over: nothing is found in it */
};

/* The text that bodies are cut from: the same in every program. */
struct content_block {
  uint8_t lines[CONTENT_BLOCK_LINES * CONTENT_LINE];
  uint8_t tail[CONTENT_LINE + 2]; /* the last line is the end of this one */
};
void content_block_fill(struct content_block *block);

struct content_stamp {
  uint64_t run;
  uint64_t seq;
  uint64_t sent_ns;    /* CLOCK_MONOTONIC */
  uint64_t messages;   /* how many the run has in all; 0: not known beforehand */
  uint64_t recipients; /* of each message of the run */
  uint64_t body_size;
};

/* Writes the header with its blank line and sets stamp->body_size so that header and body have `size` bytes together; false if the header
 * alone is longer, or out has no room. A body of one byte cannot end in CRLF: it gets none, and the message is a byte shorter. */
must_check bool content_header(struct content_stamp *stamp, size_t size, struct span from, struct span to, struct span date, struct fmt *out);
/* The value of an X-Bench field. */
must_check bool content_stamp_parse(struct content_stamp *stamp, struct span value);

/* The body of that message from `offset` (below body_size) on, as far as it lies in one piece. Borrows from the block. */
struct span content_body(const struct content_block *block, uint64_t seq, uint64_t body_size, uint64_t offset);

enum content_verdict {
  CONTENT_WHOLE,   /* stamp found, body as it was made */
  CONTENT_FOREIGN, /* no stamp: not a message of ours */
  CONTENT_CORRUPT, /* stamp found, body different */
};

/* Reads a message piece by piece. */
struct content_reader {
  const struct content_block *_block;
  bool _in_body;
  bool _different;
  bool stamped; /* `stamp` is valid */
  struct content_stamp stamp;
  uint64_t size_bytes; /* of the whole message so far */
  uint64_t _body_at;
  size_t _header_len;
  uint8_t _header[CONTENT_HEADER_MAX];
};

void content_reader_begin(struct content_reader *reader, const struct content_block *block);
void content_reader_feed(struct content_reader *reader, struct span bytes);
enum content_verdict content_reader_end(const struct content_reader *reader);

#endif
