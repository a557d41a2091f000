/*
 * error: the one enumeration of errors. Functions that can fail return 0 (or a count) or one of these negative values.
 * errno is translated here by core/io alone (error_from_errno); everything above sees only E_... codes.
 * A remote server's "no" is data (struct smtp_reply), never an error code.
 */
#ifndef CORE_BASE_ERROR_H
#define CORE_BASE_ERROR_H

enum error {
  E_OK = 0,
  E_SYNTAX = -1,          /* input does not follow its grammar */
  E_RANGE = -2,           /* a number or a length is outside what is allowed */
  E_FULL = -3,            /* a pool, queue or buffer of ours has no room */
  E_NO_MEMORY = -4,       /* the kernel gave no memory */
  E_NO_SPACE = -5,        /* disk or quota full */
  E_IO = -6,              /* the device failed */
  E_CORRUPT = -7,         /* stored bytes contradict their checksum or format */
  E_NOT_FOUND = -8,       /* no such file, name or record */
  E_EXISTS = -9,          /* is there already, or has something in it */
  E_PERMISSION = -10,     /* not allowed by the system */
  E_BUSY = -11,           /* locked by another process, or address in use */
  E_CANCELED = -12,       /* we took the operation back */
  E_TIMEOUT = -13,        /* a time limit passed */
  E_REFUSED = -14,        /* connection refused */
  E_RESET = -15,          /* connection reset or broken pipe */
  E_UNREACHABLE = -16,    /* no route to host or network */
  E_TOO_MANY_FILES = -17, /* descriptor limit reached */
  E_UNSUPPORTED = -18,    /* the kernel or file system cannot do this */
  E_CLOSED = -19,         /* the other side ended the stream in an orderly way */
  E_PROTOCOL = -20,       /* the other side broke its protocol */
  E_TOO_LONG = -21,       /* input longer than we take */
  E_NOT_DIRECTORY = -22,  /* a file stands where a directory is needed */
  E_IS_DIRECTORY = -23,   /* a directory stands where a file is needed */
  E_NO_ADDRESS = -24,     /* a local address that is none of this host, or has no port left */
  E_OTHER = -25,          /* any errno without a name above */
};

/* A short lower-case phrase, e.g. "connection refused". Never NULL; static storage. */
const char *error_text(int error);

/* The E_... code for a positive errno value. */
int error_from_errno(int errno_value);

#endif
