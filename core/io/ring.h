/*
 * ring: what ring.c, socket.c and file.c share of the io_uring implementation of io.h. For these three files only.
 *
 * user_data of every operation is packed: what it is (8 bits), slot (24 bits), generation of the slot (32 bits). No pointer goes through the kernel.
 */
#ifndef CORE_IO_RING_H
#define CORE_IO_RING_H

#include <liburing.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "core/base/pool.h"
#include "core/io/io.h"

enum ring_op {
  RING_IGNORE = 1, /* cancels and notifications of ours: their own completion says nothing */
  RING_NOTIFIED,   /* another ring's message */
  RING_EVENTFD,
  RING_ACCEPT,
  RING_CONNECT,
  RING_RECEIVE,
  RING_SEND,
  RING_CLOSE,
  RING_FILE,
};

union ring_address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

struct ring_socket {
  int fd;
  uint8_t operations; /* that the kernel still holds; the slot lives until they all ended */
  bool receiving;     /* a multishot receive or accept is armed */
  bool want_receive;  /* ... and should be */
  bool once;          /* ... for one completion only: not a multishot */
  bool sending;
  bool connecting;
  bool closing;
  bool listener;
  bool datagram;
  uint8_t datagrams;      /* of io_send_datagrams, that the kernel still has */
  bool starved;           /* waits in io->_starved for buffers or descriptors */
  bool fresh;             /* nothing was received yet */
  uint64_t receive_token; /* of a listener: for accept */
  uint64_t send_token;
  uint64_t close_token;          /* before that: for connect */
  const struct io_slice *slices; /* what is still to be sent: the first one less `skip` bytes */
  uint32_t slices_count;
  size_t skip;
  int64_t sent;
  union {
    struct msghdr message;
    union ring_address address;
  } kernel; /* read by the kernel at submission */
};

struct ring_file {
  uint64_t token;
  const struct io_slice *slices;
  uint32_t slices_count;
  size_t skip;
  int64_t done;
  uint64_t offset;
  int fd;
  uint8_t kind; /* enum ring_file_kind */
  int write_flags;
};
enum ring_file_kind { RING_FILE_READ = 1, RING_FILE_WRITE, RING_FILE_SYNC };

struct io {
  struct io_uring ring;
  struct io_options options;
  struct pool sockets; /* struct ring_socket */
  struct pool files;   /* struct ring_file */
  struct io_uring_buf_ring *buffers;
  uint8_t *buffer_memory;
  uint16_t *buffers_out; /* handed out with the completions of the last io_wait */
  unsigned buffers_out_count;
  uint32_t *starved; /* sockets to arm again when buffers are back */
  unsigned starved_count;
  uint64_t retry_accept_ns; /* listeners in `starved` that ran out of descriptors are tried again then */
  int eventfd;
  uint64_t eventfd_value;
  struct io_completion *early; /* completions of operations that failed before they reached the kernel */
  unsigned early_count, early_capacity;
  struct io_completion completions[IO_COMPLETIONS_MAX];
  unsigned completions_count;
};

static inline uint64_t ring_tag(enum ring_op op, uint32_t index, uint32_t generation) {
  return ((uint64_t)op << 56) | ((uint64_t)(index & 0xffffff) << 32) | generation;
}

/* A submission entry; never NULL: a full queue is submitted first. */
struct io_uring_sqe *ring_sqe(struct io *io);
/* A completion for the caller, in the present batch (from the dispatch of a kernel completion). */
void ring_complete(struct io *io, uint64_t token, int64_t result, struct span bytes);
/* The same from a call that starts an operation: comes with the next io_wait. */
void ring_complete_early(struct io *io, uint64_t token, int64_t result);
/* The buffer of a receive completion: goes back to the kernel at the next io_wait. */
struct span ring_take_buffer(struct io *io, const struct io_uring_cqe *cqe);

/* socket.c: a kernel completion of one of its operations. */
void socket_dispatch(struct io *io, enum ring_op op, uint32_t index, uint32_t generation, const struct io_uring_cqe *cqe);
/* socket.c: buffers are back: arms what was starved. */
void socket_feed_starved(struct io *io);
/* file.c */
void file_dispatch(struct io *io, uint32_t index, uint32_t generation, const struct io_uring_cqe *cqe);

/* Moves (slices, count, skip) ahead by `bytes`. */
static inline void slices_advance(const struct io_slice **slices, uint32_t *count, size_t *skip, size_t bytes) {
  while (*count > 0 && bytes >= (*slices)->len - *skip) {
    bytes -= (*slices)->len - *skip;
    *skip = 0;
    (*slices)++;
    (*count)--;
  }
  *skip += bytes;
}

#endif
