/*
 * command: the grammar of SMTP command lines (RFC 5321 4.1, with the parameters of SIZE 1870, 8BITMIME 6152, SMTPUTF8 6531, DSN 3461, AUTH 4954, and
 * BDAT of RFC 3030). Pure: whether a command is in order here and now is the server machine's question (server.h).
 *
 *   struct span argument = line;   (without its CRLF)
 *   switch (command_read(&argument)) { case COMMAND_MAIL: fault = command_mail(argument, &mail); ... }
 *
 * What is wrong with a line is told as the reply to send: one whole line with CRLF, in static memory; the empty span means that all is well.
 */
#ifndef NET_SMTP_COMMAND_H
#define NET_SMTP_COMMAND_H

#include "core/base/must.h"
#include "core/base/span.h"
#include "net/smtp/address.h"

enum command_verb {
  COMMAND_UNKNOWN = 0,
  COMMAND_EHLO,
  COMMAND_HELO,
  COMMAND_MAIL,
  COMMAND_RCPT,
  COMMAND_DATA,
  COMMAND_BDAT,
  COMMAND_RSET,
  COMMAND_NOOP,
  COMMAND_QUIT,
  COMMAND_VRFY,
  COMMAND_HELP,
  COMMAND_AUTH,
  COMMAND_STARTTLS,
  COMMAND_ABSENT,  /* SMTP has it, this server does not */
  COMMAND_FOREIGN, /* another protocol's, which a web browser can be made to send here */
  COMMAND_VERBS
};

enum smtp_ret { SMTP_RET_NONE, SMTP_RET_FULL, SMTP_RET_HEADERS };
enum smtp_body { SMTP_BODY_7BIT, SMTP_BODY_8BITMIME };
enum smtp_notify { SMTP_NOTIFY_DEFAULT = 0, SMTP_NOTIFY_NEVER = 1, SMTP_NOTIFY_SUCCESS = 2, SMTP_NOTIFY_FAILURE = 4, SMTP_NOTIFY_DELAY = 8 };

struct smtp_mail { /* spans point into the line */
  struct address sender;
  uint64_t size; /* SIZE=, 0: not given; UINT64_MAX: that or more */
  enum smtp_body body;
  enum smtp_ret ret;
  bool smtputf8;
  bool require_tls;  /* REQUIRETLS (RFC 8689) */
  struct span envid; /* xtext as received, empty: none */
};

struct smtp_rcpt {
  struct address recipient;
  uint8_t notify;    /* bits of enum smtp_notify */
  struct span orcpt; /* "rfc822;xtext" as received, empty: none */
};

struct smtp_auth {
  struct span mechanism; /* as it came; its case does not count */
  struct span initial;   /* the initial response, in base64 as it came; "=" is one that is empty */
  bool initial_given;
};

/* Which command is this? *line is moved on to its argument, without the white space around it (RFC 5321 4.1.1 wants it tolerated at the end). */
enum command_verb command_read(struct span *line);

/* EHLO and HELO, 4.1.1.1: one word of what names and address literals are made of. Not held to the grammar of Domain: clients call
 * themselves anything. */
must_check struct span command_hello(struct span argument, struct span *name);
/* MAIL, 4.1.1.2. White space after the colon is tolerated. AUTH= (RFC 4954 5) is checked and otherwise ignored: whoever hands mail over is not trusted to speak for others. */
must_check struct span command_mail(struct span argument, struct smtp_mail *mail);
/* RCPT, 4.1.1.3. `utf8`: SMTPUTF8 was given with MAIL. */
must_check struct span command_rcpt(struct span argument, bool utf8, struct smtp_rcpt *rcpt);
/* BDAT, RFC 3030 2. A size of more than UINT64_MAX is given as that. */
must_check struct span command_bdat(struct span argument, uint64_t *size, bool *last);
/* AUTH, RFC 4954 4: a mechanism's name (RFC 4422 3.1) and maybe an initial response, of which only the letters are looked at. */
must_check struct span command_auth(struct span argument, struct smtp_auth *auth);

#endif
