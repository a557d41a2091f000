#include "bench/lib/ring.h"

#include "bench/lib/process.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BUFFER_GROUP = 0 };

static int open_uring(struct ring *ring, const char **why) {
  struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
                                            IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
                                   .cq_entries = RING_COMPLETIONS};
  *why = "io_uring_setup";
  int result = io_uring_queue_init_params(RING_ENTRIES, &ring->_uring, &params);
  if (result < 0) return result;
  io_uring_register_ring_fd(&ring->_uring); /* a saving only: without it the calls look the descriptor up */
  return 0;
}

static void provide(struct ring *ring, unsigned buffer, int offset) {
  io_uring_buf_ring_add(ring->_provided, ring->_memory + (size_t)buffer * ring->_buffer_size, ring->_buffer_size, (unsigned short)buffer,
                        io_uring_buf_ring_mask(ring->_buffers), offset);
}

static int open_buffers(struct ring *ring, const char **why) {
  size_t head_size = ring->_buffers * sizeof(struct io_uring_buf);
  size_t size = head_size + (size_t)ring->_buffers * ring->_buffer_size;
  *why = "memory for receive buffers";
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return -errno;
  ring->_provided = memory;
  ring->_memory = (uint8_t *)memory + head_size;
  struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)memory, .ring_entries = ring->_buffers, .bgid = BUFFER_GROUP};
  *why = "provided buffers";
  int result = io_uring_register_buf_ring(&ring->_uring, &reg, 0);
  if (result < 0) return result;
  io_uring_buf_ring_init(ring->_provided);
  for (unsigned i = 0; i < ring->_buffers; i++) provide(ring, i, (int)i);
  io_uring_buf_ring_advance(ring->_provided, (int)ring->_buffers);
  return 0;
}

int ring_open(struct ring *ring, const struct ring_options *options, const char **why) {
  *ring = (struct ring){._buffers = options->buffers, ._buffer_size = options->buffer_size};
  int result = open_uring(ring, why);
  if (result < 0) return result;
  *why = "fixed files (is the limit of open files too low?)";
  result = io_uring_register_files_sparse(&ring->_uring, options->slots);
  if (result == 0) result = open_buffers(ring, why);
  if (result < 0) ring_close(ring);
  return result;
}

void ring_close(struct ring *ring) {
  io_uring_queue_exit(&ring->_uring);
  if (ring->_provided == NULL) return;
  munmap(ring->_provided, ring->_buffers * sizeof(struct io_uring_buf) + (size_t)ring->_buffers * ring->_buffer_size);
  ring->_provided = NULL;
}

int ring_adopt(struct ring *ring, unsigned slot, int fd) {
  int result = io_uring_register_files_update(&ring->_uring, slot, &fd, 1);
  if (result < 0) return result;
  close(fd);
  return 0;
}

struct io_uring_sqe *ring_entry(struct ring *ring) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->_uring);
  while (sqe == NULL) {
    int result = io_uring_submit(&ring->_uring);
    must(result >= 0 || result == -EINTR || result == -EBUSY || result == -EAGAIN);
    sqe = io_uring_get_sqe(&ring->_uring);
  }
  return sqe;
}

void ring_token(struct io_uring_sqe *sqe, uint32_t operation, uint32_t index) { io_uring_sqe_set_data64(sqe, (uint64_t)operation << 32 | index); }

static void on_slot(struct io_uring_sqe *sqe, uint32_t operation, uint32_t index) {
  sqe->flags |= IOSQE_FIXED_FILE;
  ring_token(sqe, operation, index);
}

void ring_accept(struct ring *ring, int fd, uint32_t operation, uint32_t index) {
  struct io_uring_sqe *sqe = ring_entry(ring);
  io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
  ring_token(sqe, operation, index);
}

void ring_connect(struct ring *ring, unsigned slot, const struct sockaddr *address, socklen_t length, uint32_t operation, uint32_t index) {
  struct io_uring_sqe *sqe = ring_entry(ring);
  io_uring_prep_connect(sqe, (int)slot, address, length);
  on_slot(sqe, operation, index);
}

void ring_receive(struct ring *ring, unsigned slot, uint32_t operation, uint32_t index) {
  struct io_uring_sqe *sqe = ring_entry(ring);
  io_uring_prep_recv_multishot(sqe, (int)slot, NULL, 0, 0);
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = BUFFER_GROUP;
  on_slot(sqe, operation, index);
}

void ring_send(struct ring *ring, unsigned slot, const void *at, size_t len, uint32_t operation, uint32_t index) {
  struct io_uring_sqe *sqe = ring_entry(ring);
  io_uring_prep_send(sqe, (int)slot, at, len, MSG_NOSIGNAL | MSG_WAITALL);
  on_slot(sqe, operation, index);
}

void ring_send_message(struct ring *ring, unsigned slot, const struct msghdr *message, uint32_t operation, uint32_t index) {
  struct io_uring_sqe *sqe = ring_entry(ring);
  io_uring_prep_sendmsg(sqe, (int)slot, message, MSG_NOSIGNAL | MSG_WAITALL);
  on_slot(sqe, operation, index);
}

void ring_shutdown(struct ring *ring, unsigned slot) {
  struct io_uring_sqe *sqe = ring_entry(ring);
  io_uring_prep_shutdown(sqe, (int)slot, SHUT_WR);
  on_slot(sqe, RING_IGNORE, slot);
}

/* By its token, which the kernel has in a hash: to find what is under way on a slot it would look through all operations of the ring. */
void ring_cancel(struct ring *ring, uint32_t operation, uint32_t index) {
  struct io_uring_sqe *sqe = ring_entry(ring);
  io_uring_prep_cancel64(sqe, (uint64_t)operation << 32 | index, 0);
  ring_token(sqe, RING_IGNORE, index);
}

void ring_drop(struct ring *ring, unsigned slot, uint32_t operation, uint32_t index) {
  struct io_uring_sqe *sqe = ring_entry(ring);
  io_uring_prep_close_direct(sqe, slot);
  ring_token(sqe, operation, index);
}

static unsigned reap(struct ring *ring) {
  unsigned count = 0, seen = 0, head;
  struct io_uring_cqe *cqe;
  io_uring_for_each_cqe(&ring->_uring, head, cqe) {
    if (count == RING_BATCH) break;
    seen++;
    uint32_t operation = (uint32_t)(cqe->user_data >> 32);
    if (operation != RING_IGNORE) ring->events[count++] = (struct ring_event){operation, (uint32_t)cqe->user_data, cqe->res, cqe->flags};
  }
  io_uring_cq_advance(&ring->_uring, seen);
  return count;
}

unsigned ring_wait(struct ring *ring, uint64_t until_ns) {
  uint64_t now_ns = until_ns == 0 ? 0 : process_now_ns();
  struct io_uring_cqe *cqe;
  if (until_ns > now_ns && io_uring_cq_ready(&ring->_uring) == 0) {
    uint64_t left_ns = until_ns - now_ns;
    struct __kernel_timespec timeout = {.tv_sec = (long long)(left_ns / 1000000000), .tv_nsec = (long long)(left_ns % 1000000000)};
    int result = io_uring_submit_and_wait_timeout(&ring->_uring, &cqe, 1, &timeout, NULL);
    must(result >= 0 || result == -ETIME || result == -EINTR || result == -EBUSY || result == -EAGAIN);
  } else {
    int result = io_uring_submit_and_get_events(&ring->_uring); /* runs the deferred work, too */
    must(result >= 0 || result == -EINTR || result == -EBUSY || result == -EAGAIN);
  }
  return reap(ring);
}

struct span ring_bytes(const struct ring *ring, const struct ring_event *event) {
  unsigned buffer = event->flags >> IORING_CQE_BUFFER_SHIFT;
  return span_of(ring->_memory + (size_t)buffer * ring->_buffer_size, (size_t)event->result);
}

void ring_give_back(struct ring *ring, const struct ring_event *event) {
  if ((event->flags & IORING_CQE_F_BUFFER) == 0) return;
  provide(ring, event->flags >> IORING_CQE_BUFFER_SHIFT, 0);
  io_uring_buf_ring_advance(ring->_provided, 1);
}
