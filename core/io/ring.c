/*
 * The io_uring behind io.h: set-up, submission, the wait, and the translation of kernel completions.
 *
 * The reap only translates: nothing of the caller runs in it. Receive buffers handed out with one batch go back to the kernel at the start of
 * the next io_wait, in one ring update.
 */
#include "core/io/ring.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/base/error.h"

#define SUBMISSIONS 4096  /* entries; a fuller turn is submitted in pieces */
#define COMPLETIONS 32768 /* entries; the kernel keeps what does not fit, slowly */
#define BUFFER_GROUP 0
#define FILE_OPERATIONS_MAX 65536
#define ACCEPT_RETRY_NS (100 * 1000000ull)

static_assert(sizeof(struct io_slice) == sizeof(struct iovec), "io_slice has the layout of iovec");
static_assert(offsetof(struct io_slice, len) == offsetof(struct iovec, iov_len), "io_slice has the layout of iovec");

struct io_uring_sqe *ring_sqe(struct io *io) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);
  while (unlikely(sqe == NULL)) {
    int submitted = io_uring_submit(&io->ring);
    must(submitted >= 0 || submitted == -EBUSY || submitted == -EAGAIN || submitted == -EINTR);
    sqe = io_uring_get_sqe(&io->ring);
  }
  return sqe;
}

void ring_complete(struct io *io, uint64_t token, int64_t result, struct span bytes) {
  must(io->completions_count < IO_COMPLETIONS_MAX);
  io->completions[io->completions_count++] = (struct io_completion){token, result, bytes};
}

void ring_complete_early(struct io *io, uint64_t token, int64_t result) {
  if (io->early_count == io->early_capacity) {
    unsigned capacity = io->early_capacity == 0 ? 64 : io->early_capacity * 2;
    struct io_completion *grown = realloc(io->early, capacity * sizeof *grown);
    must(grown != NULL);
    io->early = grown;
    io->early_capacity = capacity;
  }
  io->early[io->early_count++] = (struct io_completion){token, result, {NULL, 0}};
}

/* ---- receive buffers ---- */

static int buffers_setup(struct io *io) {
  unsigned count = io->options.receive_buffers;
  size_t ring_bytes = count * sizeof(struct io_uring_buf);
  void *ring = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  void *memory = mmap(NULL, (size_t)count * io->options.receive_buffer_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  io->buffers = ring == MAP_FAILED ? NULL : ring;
  io->buffer_memory = memory == MAP_FAILED ? NULL : memory;
  io->buffers_out = malloc(count * sizeof *io->buffers_out);
  if (io->buffers == NULL || io->buffer_memory == NULL || io->buffers_out == NULL) return E_NO_MEMORY;
  struct io_uring_buf_reg registration = {.ring_addr = (uintptr_t)ring, .ring_entries = count, .bgid = BUFFER_GROUP};
  int result = io_uring_register_buf_ring(&io->ring, &registration, 0);
  if (result < 0) return error_from_errno(-result);
  io_uring_buf_ring_init(io->buffers);
  for (unsigned i = 0; i < count; i++) io->buffers_out[i] = (uint16_t)i;
  io->buffers_out_count = count;
  return E_OK;
}

static void buffers_return(struct io *io) {
  int mask = io_uring_buf_ring_mask(io->options.receive_buffers);
  for (unsigned i = 0; i < io->buffers_out_count; i++) {
    uint16_t id = io->buffers_out[i];
    uint8_t *at = io->buffer_memory + (size_t)id * io->options.receive_buffer_size;
    io_uring_buf_ring_add(io->buffers, at, io->options.receive_buffer_size, id, mask, (int)i);
  }
  if (io->buffers_out_count > 0) io_uring_buf_ring_advance(io->buffers, (int)io->buffers_out_count);
  io->buffers_out_count = 0;
}

struct span ring_take_buffer(struct io *io, const struct io_uring_cqe *cqe) {
  if ((cqe->flags & IORING_CQE_F_BUFFER) == 0) return (struct span){NULL, 0};
  uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
  must(io->buffers_out_count < io->options.receive_buffers);
  io->buffers_out[io->buffers_out_count++] = id;
  return span_of(io->buffer_memory + (size_t)id * io->options.receive_buffer_size, cqe->res > 0 ? (size_t)cqe->res : 0);
}

/* ---- life ---- */

static int ring_setup(struct io *io, const char **why) {
  struct io_uring_params params = {
      .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
      .cq_entries = COMPLETIONS,
  };
  int result = io_uring_queue_init_params(SUBMISSIONS, &io->ring, &params);
  if (result == 0) {
    io_uring_register_ring_fd(&io->ring); /* saves a descriptor look-up a call; going without is fine */
    return E_OK;
  }
  io->ring.ring_fd = -1;
  switch (-result) {
  case ENOSYS: *why = "this kernel has no io_uring (Linux 6.1 or newer is needed)"; break;
  case EPERM:
  case EACCES: *why = "io_uring is disabled here (sysctl kernel.io_uring_disabled, or a container's seccomp profile)"; break;
  case EINVAL: *why = "this kernel's io_uring is too old (Linux 6.1 or newer is needed)"; break;
  case ENOMEM: *why = "no memory for the ring (raise the memlock limit)"; break;
  default: *why = "io_uring cannot be set up"; break;
  }
  return result == -ENOMEM ? E_NO_MEMORY : E_UNSUPPORTED;
}

static void eventfd_arm(struct io *io) {
  struct io_uring_sqe *sqe = ring_sqe(io);
  io_uring_prep_read(sqe, io->eventfd, &io->eventfd_value, sizeof io->eventfd_value, 0);
  io_uring_sqe_set_data64(sqe, ring_tag(RING_EVENTFD, 0, 0));
}

static uint32_t sockets_allowed(uint32_t wanted) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) return (uint32_t)limit.rlim_cur;
  return wanted;
}

int io_open(struct io **out, const struct io_options *options, const char **why) {
  const char *nobody;
  if (why == NULL) why = &nobody;
  *why = "no memory";
  struct io *io = calloc(1, sizeof *io);
  if (io == NULL) return E_NO_MEMORY;
  io->options = *options;
  io->options.sockets_max = sockets_allowed(options->sockets_max);
  io->eventfd = eventfd(0, EFD_CLOEXEC);
  int error = ring_setup(io, why);
  if (error == E_OK) error = buffers_setup(io);
  if (error == E_OK) error = pool_init(&io->sockets, sizeof(struct ring_socket), io->options.sockets_max);
  if (error == E_OK) error = pool_init(&io->files, sizeof(struct ring_file), FILE_OPERATIONS_MAX);
  io->starved = calloc(io->options.sockets_max, sizeof *io->starved);
  if (error == E_OK && (io->starved == NULL || io->eventfd < 0)) error = E_NO_MEMORY;
  if (error != E_OK) {
    io_destroy(io);
    return error;
  }
  buffers_return(io);
  eventfd_arm(io);
  *out = io;
  return E_OK;
}

void io_destroy(struct io *io) {
  if (io == NULL) return;
  for (uint32_t i = 0; i < io->sockets.capacity; i++) {
    struct ring_socket *socket = pool_slot(&io->sockets, i);
    if (socket != NULL && socket->fd >= 0) close(socket->fd);
  }
  if (io->ring.ring_fd >= 0) io_uring_queue_exit(&io->ring);
  if (io->eventfd >= 0) close(io->eventfd);
  if (io->buffers != NULL) munmap(io->buffers, io->options.receive_buffers * sizeof(struct io_uring_buf));
  if (io->buffer_memory != NULL) munmap(io->buffer_memory, (size_t)io->options.receive_buffers * io->options.receive_buffer_size);
  pool_fini(&io->sockets);
  pool_fini(&io->files);
  free(io->buffers_out);
  free(io->starved);
  free(io->early);
  free(io);
}

uint32_t io_sockets_max(const struct io *io) { return io->options.sockets_max; }

/* ---- the wait ---- */

static void dispatch(struct io *io, const struct io_uring_cqe *cqe) {
  uint64_t tag = cqe->user_data;
  enum ring_op op = (enum ring_op)(tag >> 56);
  uint32_t index = (uint32_t)(tag >> 32) & 0xffffff;
  uint32_t generation = (uint32_t)tag;
  switch (op) {
  case RING_IGNORE: break;
  case RING_EVENTFD: eventfd_arm(io); /* fall through */
  case RING_NOTIFIED: ring_complete(io, io->options.notify_token, 0, (struct span){NULL, 0}); break;
  case RING_FILE: file_dispatch(io, index, generation, cqe); break;
  default: socket_dispatch(io, op, index, generation, cqe); break;
  }
}

static void reap(struct io *io) {
  struct io_uring_cqe *cqe;
  unsigned head, seen = 0;
  io_uring_for_each_cqe(&io->ring, head, cqe) {
    if (io->completions_count == IO_COMPLETIONS_MAX) break;
    dispatch(io, cqe);
    seen++;
  }
  io_uring_cq_advance(&io->ring, seen);
}

static void take_early(struct io *io) {
  unsigned count = io->early_count < IO_COMPLETIONS_MAX ? io->early_count : IO_COMPLETIONS_MAX;
  memcpy(io->completions, io->early, count * sizeof *io->early);
  memmove(io->early, io->early + count, (io->early_count - count) * sizeof *io->early);
  io->early_count -= count;
  io->completions_count = count;
}

static void submit_and_wait(struct io *io, uint64_t until_ns) {
  uint64_t now_ns = until_ns == 0 || until_ns == UINT64_MAX ? 0 : io_now_ns(io);
  if (until_ns <= now_ns || io->completions_count > 0 || io_uring_cq_ready(&io->ring) > 0) {
    io_uring_submit_and_get_events(&io->ring); /* deferred task work runs only inside the call */
    return;
  }
  uint64_t wait_ns = until_ns - now_ns;
  struct __kernel_timespec wait = {.tv_sec = (int64_t)(wait_ns / 1000000000), .tv_nsec = (int64_t)(wait_ns % 1000000000)};
  struct io_uring_cqe *cqe;
  io_uring_submit_and_wait_timeout(&io->ring, &cqe, 1, until_ns == UINT64_MAX ? NULL : &wait, NULL);
}

unsigned io_wait(struct io *io, uint64_t until_ns, const struct io_completion **done) {
  io->completions_count = 0;
  buffers_return(io);
  if (io->starved_count > 0) {
    uint64_t now_ns = io_now_ns(io);
    socket_feed_starved(io);
    if (io->starved_count > 0) { /* listeners out of descriptors: other shards may free some, of which nobody tells us */
      if (io->retry_accept_ns <= now_ns) io->retry_accept_ns = now_ns + ACCEPT_RETRY_NS;
      if (until_ns > io->retry_accept_ns) until_ns = io->retry_accept_ns;
    }
  }
  if (io->early_count > 0) take_early(io);
  submit_and_wait(io, until_ns);
  reap(io);
  *done = io->completions;
  return io->completions_count;
}

void io_notify(struct io *from, struct io *to) {
  if (from == NULL) {
    uint64_t one = 1;
    ssize_t written = write(to->eventfd, &one, sizeof one);
    must(written == (ssize_t)sizeof one);
    return;
  }
  struct io_uring_sqe *sqe = ring_sqe(from);
  io_uring_prep_msg_ring(sqe, to->ring.ring_fd, 0, ring_tag(RING_NOTIFIED, 0, 0), 0);
  io_uring_sqe_set_data64(sqe, ring_tag(RING_IGNORE, 0, 0));
  io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
}

/* ---- clock and chance ---- */

static uint64_t clock_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t io_now_ns(struct io *io) {
  (void)io;
  return clock_ns(CLOCK_MONOTONIC);
}

uint64_t io_wall_ms(struct io *io) {
  (void)io;
  return clock_ns(CLOCK_REALTIME) / 1000000;
}

void io_random(struct io *io, void *room, size_t len) {
  (void)io;
  for (size_t got = 0; got < len;) {
    ssize_t result = getrandom((uint8_t *)room + got, len - got, 0);
    must(result > 0 || errno == EINTR);
    if (result > 0) got += (size_t)result;
  }
}
