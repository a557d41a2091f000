/*
 * Files of io.h: reads and writes on the ring that are seen through to their last byte, and the blocking calls for start-up and rare events.
 */
#include "core/io/ring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/base/error.h"

#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x00002000U /* Linux 6.1; glibc 2.36 does not know it */
#endif

static int last_error(void) { return error_from_errno(errno); }

int io_file_open(struct io *io, const char *path, unsigned flags, io_file *file) {
  (void)io;
  int mode = O_CLOEXEC | ((flags & IO_FILE_WRITE) != 0 ? O_RDWR : O_RDONLY);
  if (flags & IO_FILE_CREATE) mode |= O_CREAT;
  if (flags & IO_FILE_EXCLUSIVE) mode |= O_EXCL;
  if (flags & IO_FILE_DIRECT) mode |= O_DIRECT;
  if (flags & IO_FILE_APPEND) mode |= O_APPEND;
  int fd = open(path, mode, 0640);
  if (fd < 0) return last_error();
  if ((flags & IO_FILE_LOCK) != 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
    int error = last_error();
    close(fd);
    return error;
  }
  *file = fd;
  return E_OK;
}

void io_file_close(struct io *io, io_file file) {
  (void)io;
  close(file);
}

int io_file_size(struct io *io, io_file file, uint64_t *size_bytes) {
  (void)io;
  struct stat status;
  if (fstat(file, &status) != 0) return last_error();
  *size_bytes = (uint64_t)status.st_size;
  return E_OK;
}

/* The two members of struct statx that newer kernels added lie at a fixed place of their ABI: 32-bit words 38 and 39. */
unsigned io_file_alignment(struct io *io, io_file file) {
  (void)io;
  struct statx status;
  if (statx(file, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) != 0 || (status.stx_mask & STATX_DIOALIGN) == 0) return 4096;
  uint32_t words[2];
  memcpy(words, (const uint8_t *)&status + 152, sizeof words);
  unsigned alignment = words[0] > words[1] ? words[0] : words[1];
  return alignment < 512 ? 512 : alignment;
}

int io_file_allocate(struct io *io, io_file file, uint64_t size_bytes) {
  (void)io;
  int result = fallocate(file, 0, 0, (off_t)size_bytes);
  return result == 0 ? E_OK : last_error();
}

int io_file_truncate(struct io *io, io_file file, uint64_t size_bytes) {
  (void)io;
  return ftruncate(file, (off_t)size_bytes) == 0 ? E_OK : last_error();
}

int io_file_read_now(struct io *io, io_file file, void *at, size_t len, uint64_t offset, size_t *got) {
  (void)io;
  for (*got = 0; *got < len;) {
    ssize_t result = pread(file, (uint8_t *)at + *got, len - *got, (off_t)(offset + *got));
    if (result == 0) return E_OK;
    if (result < 0 && errno != EINTR) return last_error();
    if (result > 0) *got += (size_t)result;
  }
  return E_OK;
}

int io_file_write_now(struct io *io, io_file file, const void *at, size_t len, uint64_t offset) {
  (void)io;
  for (size_t written = 0; written < len;) {
    ssize_t result = pwrite(file, (const uint8_t *)at + written, len - written, (off_t)(offset + written));
    if (result == 0) return E_IO;
    if (result < 0 && errno != EINTR) return last_error();
    if (result > 0) written += (size_t)result;
  }
  return fdatasync(file) == 0 ? E_OK : last_error();
}

int io_file_rename(struct io *io, const char *from, const char *to) {
  (void)io;
  return rename(from, to) == 0 ? E_OK : last_error();
}

int io_file_remove(struct io *io, const char *path) {
  (void)io;
  return unlink(path) == 0 ? E_OK : last_error();
}

int io_directory_make(struct io *io, const char *path) {
  (void)io;
  char part[4096];
  size_t len = strlen(path);
  if (len == 0 || len >= sizeof part) return E_TOO_LONG;
  memcpy(part, path, len + 1);
  for (size_t i = 1; i <= len; i++) {
    if (part[i] != '/' && part[i] != '\0') continue;
    part[i] = '\0';
    if (mkdir(part, 0750) != 0 && errno != EEXIST) return last_error();
    if (i < len) part[i] = '/';
  }
  struct stat status;
  if (stat(path, &status) != 0) return last_error();
  return S_ISDIR(status.st_mode) ? E_OK : E_NOT_DIRECTORY;
}

int io_directory_remove(struct io *io, const char *path) {
  (void)io;
  return rmdir(path) == 0 ? E_OK : last_error();
}

int io_directory_sync(struct io *io, const char *path) {
  (void)io;
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return last_error();
  int error = fsync(fd) == 0 ? E_OK : last_error();
  close(fd);
  return error;
}

int io_directory_list(struct io *io, const char *path, void (*each)(void *context, const char *name), void *context) {
  (void)io;
  DIR *dir = opendir(path);
  if (dir == NULL) return last_error();
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) each(context, entry->d_name);
  closedir(dir);
  return E_OK;
}

int io_directory_space(struct io *io, const char *path, uint64_t *free_bytes, uint64_t *total_bytes) {
  (void)io;
  struct statvfs status;
  if (statvfs(path, &status) != 0) return last_error();
  *free_bytes = (uint64_t)status.f_bavail * status.f_frsize;
  if (total_bytes != NULL) *total_bytes = (uint64_t)status.f_blocks * status.f_frsize;
  return E_OK;
}

/* ---- on the ring ---- */

static void issue(struct io *io, struct ring_file *f) {
  uint32_t index = pool_index(&io->files, f);
  struct io_uring_sqe *sqe = ring_sqe(io);
  const struct iovec *rest = (const struct iovec *)f->slices;
  if (f->kind == RING_FILE_SYNC) {
    io_uring_prep_fsync(sqe, f->fd, IORING_FSYNC_DATASYNC);
  } else if (f->skip > 0 || f->slices_count == 1) { /* what is left of a slice that was cut goes alone */
    void *at = (uint8_t *)f->slices->at + f->skip;
    unsigned len = (unsigned)(f->slices->len - f->skip);
    if (f->kind == RING_FILE_WRITE) {
      io_uring_prep_write(sqe, f->fd, at, len, f->offset);
    } else {
      io_uring_prep_read(sqe, f->fd, at, len, f->offset);
    }
    sqe->rw_flags = f->write_flags;
  } else if (f->kind == RING_FILE_WRITE) {
    io_uring_prep_writev2(sqe, f->fd, rest, f->slices_count, f->offset, f->write_flags);
  } else {
    io_uring_prep_readv(sqe, f->fd, rest, f->slices_count, f->offset);
  }
  io_uring_sqe_set_data64(sqe, ring_tag(RING_FILE, index, pool_generation(&io->files, index)));
}

static void start(struct io *io, struct ring_file operation) {
  struct ring_file *f = pool_get(&io->files);
  if (f == NULL) {
    ring_complete_early(io, operation.token, E_FULL);
    return;
  }
  *f = operation;
  issue(io, f);
}

void io_write(struct io *io, io_file file, const struct io_slice *slices, unsigned count, uint64_t offset, unsigned flags, uint64_t token) {
  must(count > 0 && count <= IO_SLICES_MAX);
  start(io, (struct ring_file){.token = token,
                               .slices = slices,
                               .slices_count = count,
                               .offset = offset,
                               .fd = file,
                               .kind = RING_FILE_WRITE,
                               .write_flags = (flags & IO_WRITE_SYNC) != 0 ? RWF_DSYNC : 0});
}

void io_read(struct io *io, io_file file, const struct io_slice *slices, unsigned count, uint64_t offset, uint64_t token) {
  must(count > 0 && count <= IO_SLICES_MAX);
  start(io, (struct ring_file){.token = token, .slices = slices, .slices_count = count, .offset = offset, .fd = file, .kind = RING_FILE_READ});
}

void io_sync(struct io *io, io_file file, uint64_t token) { start(io, (struct ring_file){.token = token, .fd = file, .kind = RING_FILE_SYNC}); }

void file_dispatch(struct io *io, uint32_t index, uint32_t generation, const struct io_uring_cqe *cqe) {
  struct ring_file *f = pool_find(&io->files, index, generation);
  must(f != NULL);
  int64_t result = cqe->res;
  if (cqe->res > 0 && f->kind != RING_FILE_SYNC) {
    f->done += cqe->res;
    f->offset += (uint64_t)cqe->res;
    slices_advance(&f->slices, &f->slices_count, &f->skip, (size_t)cqe->res);
    result = f->done;
  }
  bool unfinished = f->kind != RING_FILE_SYNC && f->slices_count > 0;
  if (unfinished && (cqe->res > 0 || cqe->res == -EAGAIN || cqe->res == -EINTR)) {
    issue(io, f);
    return;
  }
  if (cqe->res < 0) result = error_from_errno(-cqe->res);
  if (cqe->res == 0 && f->kind == RING_FILE_READ) result = f->done; /* end of file */
  if (cqe->res == 0 && f->kind == RING_FILE_WRITE) result = E_IO;   /* a device that takes nothing */
  ring_complete(io, f->token, result, (struct span){NULL, 0});
  pool_put(&io->files, f);
}
