#include "queue/spool/read.h"

#include "core/base/error.h"

void reads_init(struct reads *reads) {
  for (unsigned i = 0; i < READS_MAX; i++) reads->unused[i] = (uint16_t)i;
  reads->unused_count = READS_MAX;
}

void reads_append(struct reads *reads, struct spool_read *read) {
  read->_next = NULL;
  if (reads->first == NULL) {
    reads->first = read;
  } else {
    reads->last->_next = read;
  }
  reads->last = read;
}

static bool is_within(const struct segment *segment, const struct spool_read *read) {
  return segment != NULL && (uint64_t)read->offset + read->slice.len <= read->place.length && read->place.offset + read->place.length <= segment->end;
}

void reads_turn(struct reads *reads, struct segments *segments) {
  const struct spool_read *last = reads->last; /* what callbacks append is for the next turn */
  for (bool more = true; more && reads->first != NULL && reads->unused_count > 0;) {
    struct spool_read *read = reads->first;
    reads->first = read->_next;
    more = read != last;
    struct segment *segment = segments_find(segments, read->place.segment);
    if (!is_within(segment, read)) {
      read->done(read, E_NOT_FOUND);
      continue;
    }
    uint32_t index = reads->unused[--reads->unused_count];
    reads->under_way[index] = read;
    segments->operations++;
    io_read(segments->io, segment->file, &read->slice, 1, read->place.offset + read->offset, segments_token(segments, SPOOL_READ, index));
  }
}

int record_check(const struct segments *segments, struct spool_place place, const struct io_slice *slices, unsigned slices_count) {
  const struct segment *segment = segments_find(segments, place.segment);
  if (segment == NULL) return E_NOT_FOUND;
  must(slices_count > 0 && slices_count <= SPOOL_SLICES_MAX);
  struct record_header header;
  uint64_t hash, length = 0;
  if (record_header_decode(&header, slices->at, slices->len, place.segment, &hash) != E_OK) return E_CORRUPT;
  struct span body[SPOOL_SLICES_MAX];
  for (unsigned i = 0; i < slices_count; i++) {
    body[i] = span_of(slices[i].at, slices[i].len);
    length += slices[i].len;
  }
  body[0] = span_skip(body[0], RECORD_HEADER_SIZE);
  bool whole = length == place.length && header.length == length;
  return whole && record_hash(segment->salt, body, slices_count) == hash ? E_OK : E_CORRUPT;
}

void reads_complete(struct reads *reads, const struct segments *segments, uint32_t index, int64_t result) {
  struct spool_read *read = index < READS_MAX ? reads->under_way[index] : NULL;
  must(read != NULL);
  reads->under_way[index] = NULL;
  reads->unused[reads->unused_count++] = (uint16_t)index;
  if (result >= 0 && (uint64_t)result != read->slice.len) result = E_IO; /* the file is shorter than it was */
  if (result >= 0 && read->offset == 0 && read->slice.len == read->place.length) {
    int error = record_check(segments, read->place, &read->slice, 1);
    if (error != E_OK) result = error;
  }
  read->done(read, result);
}
