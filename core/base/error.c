#include "core/base/error.h"

#include <errno.h>

const char *error_text(int error) {
  switch ((enum error)error) {
  case E_OK: return "ok";
  case E_SYNTAX: return "syntax error";
  case E_RANGE: return "value out of range";
  case E_FULL: return "no room left";
  case E_NO_MEMORY: return "out of memory";
  case E_NO_SPACE: return "no space left on device";
  case E_IO: return "input/output error";
  case E_CORRUPT: return "corrupt record";
  case E_NOT_FOUND: return "not found";
  case E_EXISTS: return "exists already";
  case E_PERMISSION: return "permission denied";
  case E_BUSY: return "in use";
  case E_CANCELED: return "canceled";
  case E_TIMEOUT: return "timed out";
  case E_REFUSED: return "connection refused";
  case E_RESET: return "connection reset";
  case E_UNREACHABLE: return "host unreachable";
  case E_TOO_MANY_FILES: return "too many open files";
  case E_UNSUPPORTED: return "not supported";
  case E_CLOSED: return "connection closed";
  case E_PROTOCOL: return "protocol error";
  case E_TOO_LONG: return "too long";
  case E_NOT_DIRECTORY: return "not a directory";
  case E_IS_DIRECTORY: return "is a directory";
  case E_NO_ADDRESS: return "local address not available";
  case E_OTHER: break;
  }
  return "system error";
}

int error_from_errno(int errno_value) {
  switch (errno_value) {
  case 0: return E_OK;
  case ENOMEM:
  case ENOBUFS: return E_NO_MEMORY;
  case ENOSPC:
  case EDQUOT: return E_NO_SPACE;
  case EIO: return E_IO;
  case ENOENT: return E_NOT_FOUND;
  case EEXIST: return E_EXISTS;
  case ENOTEMPTY: return E_EXISTS;
  case EACCES:
  case EPERM:
  case EROFS: return E_PERMISSION;
  case EADDRINUSE:
  case EBUSY:
  case EWOULDBLOCK: return E_BUSY;
  case ECANCELED:
  case EINTR: return E_CANCELED;
  case ETIMEDOUT:
  case ETIME: return E_TIMEOUT;
  case ECONNREFUSED: return E_REFUSED;
  case ECONNRESET:
  case EPIPE:
  case ECONNABORTED:
  case ENOTCONN: return E_RESET;
  case EHOSTUNREACH:
  case ENETUNREACH:
  case ENETDOWN:
  case EHOSTDOWN: return E_UNREACHABLE;
  case EADDRNOTAVAIL: return E_NO_ADDRESS;
  case EMFILE:
  case ENFILE: return E_TOO_MANY_FILES;
  case EOPNOTSUPP:
  case ENOSYS:
  case EINVAL:
  case EAFNOSUPPORT: return E_UNSUPPORTED;
  case ENAMETOOLONG:
  case EMSGSIZE: return E_TOO_LONG;
  case ENOTDIR: return E_NOT_DIRECTORY;
  case EISDIR: return E_IS_DIRECTORY;
  default: return E_OTHER;
  }
}
