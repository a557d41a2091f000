/*
 * io: the only door to the kernel. Sockets, files, clock and chance of one shard, behind completions.
 *
 * Owner: the thread that called io_open; no function but io_notify(NULL, io) may be called from another one. The program is linked
 * with ring.c, socket.c, file.c (io_uring), or, in simulation, with another implementation of this same header.
 *
 * Shape: operations are started with a caller's token and end with a struct io_completion carrying that token, handed out
 * by io_wait. Nothing completes inside the call that starts it. An operation that cannot be started (no memory,
 * no descriptor) completes with the error all the same, so there is one path to handle. Results are counts, handles or
 * E_... codes of core/base/error.h; no errno leaves this layer.
 *
 *   for (;;) {
 *     const struct io_completion *done;
 *     unsigned count = io_wait(io, deadline_ns, &done);
 *     for (unsigned i = 0; i < count; i++) dispatch(done[i].token, &done[i]);
 *   }
 *
 * Memory: slices and the bytes behind them belong to the kernel from the call until the completion. Received bytes belong
 * to io and are valid until the next io_wait.
 */
#ifndef CORE_IO_IO_H
#define CORE_IO_IO_H

#include "core/base/must.h"
#include "core/base/netaddr.h"
#include "core/base/span.h"

struct io;

/* A run of bytes to write or to read into; has the layout of struct iovec. */
struct io_slice {
  void *at;
  size_t len;
};

struct io_completion {
  uint64_t token;
  int64_t result;    /* >= 0: bytes, or a handle; < 0: E_... */
  struct span bytes; /* io_receive: what arrived, valid until the next io_wait; empty at end of stream (result 0) */
};

struct io_options {
  uint32_t sockets_max;         /* how many sockets may be open at once; lowered to what the system allows, see io_sockets_max */
  uint32_t receive_buffers;     /* a power of two */
  uint32_t receive_buffer_size; /* bytes */
  uint64_t notify_token;        /* of the completions that io_notify causes */
};

/* A handle of a socket: small, non-negative, of this io only, reused after io_close has completed. */
typedef int32_t io_socket;
/* A handle of a file: valid in every io of the process. */
typedef int32_t io_file;
#define IO_NONE (-1)

/* ---- life ---- */

/* E_UNSUPPORTED: io_uring missing, forbidden or too old (Linux 6.1 is the floor); `why` (may be NULL) then says so. */
must_check int io_open(struct io **io, const struct io_options *options, const char **why);
/* Closes all sockets. No completions come any more; buffers of the caller are no longer used on return. */
void io_destroy(struct io *io);
uint32_t io_sockets_max(const struct io *io);

/*
 * Submits what was started, then waits until something completes or `until_ns` (io_now_ns clock) has come; 0 does not
 * sleep, UINT64_MAX sleeps without limit. Returns the number of completions at *done (0 on timeout), at most
 * IO_COMPLETIONS_MAX; the array is valid until the next io_wait.
 */
#define IO_COMPLETIONS_MAX 1024
unsigned io_wait(struct io *io, uint64_t until_ns, const struct io_completion **done);

/*
 * Wakes the io_wait of another (or the same) io: it returns, with a completion of its options' notify_token. `from` is the caller's own io,
 * or NULL from a thread that has none (slower). The only function here that may name an io of another thread.
 * Several notifications may arrive as one.
 */
void io_notify(struct io *from, struct io *to);

/* ---- clock and chance ---- */

uint64_t io_now_ns(struct io *io);  /* monotonic */
uint64_t io_wall_ms(struct io *io); /* since 1970, may jump */
void io_random(struct io *io, void *room, size_t len);

/* ---- sockets ---- */

/*
 * TCP listener; each shard has its own on the same port. `first`: the first of this process on that address, E_BUSY if anybody else has it: another
 * process that shares its port as we do would else take a part of our connections. Those that are not first join it, so they come later. Port 0: the
 * kernel picks, see io_local. E_NO_ADDRESS: it is none of this host.
 */
must_check int io_listen(struct io *io, const struct netaddr *address, unsigned backlog, bool first, io_socket *listener);
/* Each connection that arrives completes with its socket handle, until the listener is closed. Without descriptors (E_TOO_MANY_FILES) accepting pauses
 * by itself for a moment; with sockets_max open a new connection is reset at once. */
void io_accept(struct io *io, io_socket listener, uint64_t token);

/* A TCP socket, not connected; `source` (may be NULL) is the local address to bind, its port 0 for any. */
must_check int io_stream(struct io *io, const struct netaddr *to, const struct netaddr *source, io_socket *socket);
/* Completes with 0 or an error. */
void io_connect(struct io *io, io_socket socket, const struct netaddr *to, uint64_t token);
/* A UDP socket on a random port, connected to the server: datagrams from elsewhere are not seen. io_receive then gives one datagram a
 * completion. */
must_check int io_datagram(struct io *io, const struct netaddr *server, io_socket *socket);

/* May a socket be bound to this address now? E_NO_ADDRESS: it is none of this host. Returns at once; the port does not matter. */
must_check int io_address_check(struct io *io, const struct netaddr *address);

/* The addresses of a connected socket or a listener. Port and family 0 if the kernel does not tell. */
void io_peer(struct io *io, io_socket socket, struct netaddr *address);
void io_local(struct io *io, io_socket socket, struct netaddr *address);

/* Bytes as they arrive, one completion each, until end of stream (result 0) or an error, after which receiving is off. */
void io_receive(struct io *io, io_socket socket, uint64_t token);
/* The next bytes only: one completion, of at most receive_buffer_size, then receiving is paused. For a peer of whom a whole burst would be too much.
 * An io_receive that is still going on ends by this: what it has under way arrives, and the first of that is what was asked for here. */
void io_receive_once(struct io *io, io_socket socket, uint64_t token);
/* Back-pressure: takes no more from the socket until io_receive is called again. Completions already under way still arrive,
 * nothing is lost. Ends no stream. */
void io_receive_pause(struct io *io, io_socket socket);

/* Sends all slices (at most IO_SLICES_MAX), in order; completes once, with the sum of bytes, or an error. One send at a time per socket. */
#define IO_SLICES_MAX 1024
void io_send(struct io *io, io_socket socket, const struct io_slice *slices, unsigned count, uint64_t token);
/* The same for a datagram socket, but each slice is a datagram of its own, at most IO_DATAGRAMS_MAX; an error if one of them could not be sent. */
#define IO_DATAGRAMS_MAX 16
void io_send_datagrams(struct io *io, io_socket socket, const struct io_slice *slices, unsigned count, uint64_t token);
/* No more will be sent (FIN); receiving goes on. */
void io_shutdown(struct io *io, io_socket socket);
/* Cancels whatever is under way and closes. Its own completion is the last one of this socket: afterwards the kernel holds no buffer of
 * it. Completions of the canceled operations are not delivered. */
void io_close(struct io *io, io_socket socket, uint64_t token);
/* As io_close, but the peer sees a reset at once (SO_LINGER 0). */
void io_abort(struct io *io, io_socket socket, uint64_t token);

/* ---- files ---- (the calls that return at once may block: for start-up and rare events) */

enum {
  IO_FILE_READ = 0,
  IO_FILE_WRITE = 1,      /* and read */
  IO_FILE_CREATE = 2,     /* make it if missing */
  IO_FILE_DIRECT = 4,     /* O_DIRECT: slices, offsets and lengths are multiples of io_file_alignment; E_UNSUPPORTED where the file system refuses */
  IO_FILE_APPEND = 8,     /* each write goes to the end; offset is ignored */
  IO_FILE_EXCLUSIVE = 16, /* with CREATE: E_EXISTS if it is there */
  IO_FILE_LOCK = 32,      /* take an exclusive lock for as long as it is open; E_BUSY if another process holds it */
};
must_check int io_file_open(struct io *io, const char *path, unsigned flags, io_file *file);
void io_file_close(struct io *io, io_file file);
must_check int io_file_size(struct io *io, io_file file, uint64_t *size_bytes);
/* The granularity direct I/O wants, in bytes, a power of two; 512 at least, 4096 if the kernel does not tell. */
unsigned io_file_alignment(struct io *io, io_file file);
/* Sets the size and reserves the blocks. */
must_check int io_file_allocate(struct io *io, io_file file, uint64_t size_bytes);
must_check int io_file_truncate(struct io *io, io_file file, uint64_t size_bytes);
must_check int io_file_read_now(struct io *io, io_file file, void *at, size_t len, uint64_t offset, size_t *got);
must_check int io_file_write_now(struct io *io, io_file file, const void *at, size_t len, uint64_t offset); /* whole, synced */
/* Of a file or a directory; files of it that are open stay so. Takes the place of a file, or of an empty directory, that is there; E_EXISTS: it is not empty. */
must_check int io_file_rename(struct io *io, const char *from, const char *to);
must_check int io_file_remove(struct io *io, const char *path);
/* Makes the directory, parents too; existing is fine. E_NOT_DIRECTORY: it, or a parent, is something else. */
must_check int io_directory_make(struct io *io, const char *path);
/* It has to be empty: else E_EXISTS. */
must_check int io_directory_remove(struct io *io, const char *path);
/* Makes names created, renamed or removed in it durable. */
must_check int io_directory_sync(struct io *io, const char *path);
/* Calls `each` for every name but "." and "..", in no order. */
must_check int io_directory_list(struct io *io, const char *path, void (*each)(void *context, const char *name), void *context);
/* Of the file system of this path: bytes free to us, and all it has (NULL: nobody asks). */
must_check int io_directory_space(struct io *io, const char *path, uint64_t *free_bytes, uint64_t *total_bytes);

enum {
  IO_WRITE_SYNC = 1, /* complete only when the bytes and what is needed to find them are on stable storage */
};
/* Writes all slices at the offset; completes once, with the sum of bytes or an error. Short writes are carried on inside; with
 * IO_WRITE_SYNC every byte is synced before the completion. At most IO_SLICES_MAX slices. */
void io_write(struct io *io, io_file file, const struct io_slice *slices, unsigned count, uint64_t offset, unsigned flags, uint64_t token);
/* Reads until the slices are full or the file ends; completes with the sum of bytes. */
void io_read(struct io *io, io_file file, const struct io_slice *slices, unsigned count, uint64_t offset, uint64_t token);
void io_sync(struct io *io, io_file file, uint64_t token); /* fdatasync */

#endif
