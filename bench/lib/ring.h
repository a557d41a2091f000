/*
 * ring: one io_uring for one thread, with what the bench programs need of it: fixed file slots named by index, multishot accept and
 * receive into provided buffers, one wait that hands out copies of the completions.
 *
 * Owner: the thread that called ring_open (SINGLE_ISSUER). Tokens carry an operation and an index, never a pointer. Linux 6.1.
 */
#ifndef BENCH_LIB_RING_H
#define BENCH_LIB_RING_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/must.h"
#include "core/base/span.h"

enum {
  RING_ENTRIES = 4096,
  RING_COMPLETIONS = 16384,
  RING_BATCH = 512, /* completions of one ring_wait */
};

struct ring_options {
  unsigned slots;       /* fixed files: sockets are slots 0 to slots - 1 */
  unsigned buffers;     /* provided for receiving: a power of two, at most 32768 */
  unsigned buffer_size; /* bytes */
};

struct ring_event {
  uint32_t operation; /* of the token; RING_IGNORE is never handed out */
  uint32_t index;
  int32_t result; /* as the kernel gave it: a count, or a negative errno */
  uint32_t flags; /* IORING_CQE_F_... */
};
#define RING_IGNORE 0u

struct ring {
  struct io_uring _uring;
  struct io_uring_buf_ring *_provided;
  uint8_t *_memory;
  unsigned _buffers;
  unsigned _buffer_size;
  struct ring_event events[RING_BATCH];
};

/* 0, or a negative errno with `why` naming the step. */
must_check int ring_open(struct ring *ring, const struct ring_options *options, const char **why);
void ring_close(struct ring *ring);

/* Moves a descriptor into a slot; the descriptor is closed. A negative errno leaves it open. */
must_check int ring_adopt(struct ring *ring, unsigned slot, int fd);

/* Operations; each completes as (operation, index). The memory named stays with the kernel until then. */
void ring_accept(struct ring *ring, int fd, uint32_t operation, uint32_t index); /* multishot, ordinary descriptors */
void ring_connect(struct ring *ring, unsigned slot, const struct sockaddr *address, socklen_t length, uint32_t operation, uint32_t index);
void ring_receive(struct ring *ring, unsigned slot, uint32_t operation, uint32_t index); /* multishot; ends without IORING_CQE_F_MORE */
void ring_send(struct ring *ring, unsigned slot, const void *at, size_t len, uint32_t operation, uint32_t index);
void ring_send_message(struct ring *ring, unsigned slot, const struct msghdr *message, uint32_t operation, uint32_t index);
/* No more will be sent (FIN). Does not complete. */
void ring_shutdown(struct ring *ring, unsigned slot);
/* Cancels the operation with this token, if it is under way; it completes in any case. */
void ring_cancel(struct ring *ring, uint32_t operation, uint32_t index);
/* Closes the slot. What is under way on it is to be canceled before. */
void ring_drop(struct ring *ring, unsigned slot, uint32_t operation, uint32_t index);
/* The next submission entry, for operations not listed. Set the token with ring_token after preparing it. */
struct io_uring_sqe *ring_entry(struct ring *ring);
void ring_token(struct io_uring_sqe *sqe, uint32_t operation, uint32_t index);

/* Submits and waits until something completes or CLOCK_MONOTONIC is at `until_ns`; 0 does not sleep. The number of events; valid until the next
 * call. */
unsigned ring_wait(struct ring *ring, uint64_t until_ns);

/* The bytes of an event of ring_receive with result > 0; give the buffer back when done with them. */
struct span ring_bytes(const struct ring *ring, const struct ring_event *event);
void ring_give_back(struct ring *ring, const struct ring_event *event);

#endif
