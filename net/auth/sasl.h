/*
 * sasl: the server's side of one authentication (RFC 4422): PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 (RFC 5802, 7677), as a pure state machine. It never blocks or looks
 * at a clock; chance is handed in. What is between client and server stays in base64, as SMTP has it (RFC 4954 4).
 *
 *   event = sasl_begin(&sasl, SASL_PLAIN, &setup, initial, initial_given, &out);
 *   for (;;) switch (event) {
 *     case SASL_CHALLENGE: send "334 " out CRLF; wait for a line; out.len = 0; event = sasl_take(&sasl, line, &out); break;
 *     case SASL_CHECK: whether sasl.password is that of sasl.name, maybe later: event = sasl_checked(&sasl, right); break;
 *     case SASL_LOOKUP: the keys of sasl.name, NULL if there is no such user or it has none: event = sasl_keys(&sasl, keys, &out); break;
 *     case SASL_SUCCESS: 235: it is sasl.name; case SASL_FAILURE: 535 5.7.8; case SASL_CANCELED: 501 5.7.0; case SASL_MALFORMED: 501 5.5.2
 *   }
 *   sasl_wipe(&sasl);
 *
 * An authorization identity must be empty or the same name. Names and passwords: secret_text_is_valid; others are SASL_FAILURE. Channel binding is not offered, so a SCRAM
 * client says "n" or "y". Who has no SCRAM keys gets a salt that depends on its name and our secret, and fails at the end, like one whose password is wrong. What was a
 * secret is wiped as soon as it is not needed: with every event from SASL_SUCCESS on nothing is left but the name. The lines themselves are the caller's to wipe.
 */
#ifndef NET_AUTH_SASL_H
#define NET_AUTH_SASL_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "net/auth/base64.h"
#include "net/auth/secret.h"

#define SASL_MESSAGE_MAX 1024 /* bytes of one message of a client, decoded: that is 255 + 255 + 511 + 2 of PLAIN, and plenty for SCRAM */
#define SASL_NONCE_MAX 64     /* of ours */
#define SASL_CHALLENGE_MAX BASE64_LENGTH(SASL_MESSAGE_MAX + SASL_NONCE_MAX + BASE64_LENGTH(SCRAM_SALT_MAX) + 32) /* `out` must have this much room */
#define SASL_MECHANISMS "PLAIN LOGIN SCRAM-SHA-256"

enum sasl_mechanism { SASL_NONE = 0, SASL_PLAIN, SASL_LOGIN, SASL_SCRAM_SHA_256 };

/* By its name, whose case does not count (RFC 4422 3.1 has it in upper case); SASL_NONE: not one of ours. */
enum sasl_mechanism sasl_mechanism(struct span name);

enum sasl_event {
  SASL_INVALID = 0,
  SASL_CHALLENGE, /* `out` has what the client is to be sent, in base64 */
  SASL_CHECK,     /* sasl.name, sasl.password: then sasl_checked */
  SASL_LOOKUP,    /* sasl.name: then sasl_keys */
  /* it is over: */
  SASL_SUCCESS,
  SASL_FAILURE,
  SASL_CANCELED,  /* the client said "*" */
  SASL_MALFORMED, /* no base64, or not what the mechanism wants */
};

struct sasl_setup {
  struct span nonce;   /* for SCRAM: 16 to SASL_NONCE_MAX random characters, printable and no comma. Copied */
  struct span secret;  /* of this process: for the salts of those who have none. Borrowed until sasl_keys returns */
  uint32_t iterations; /* for these: what most users have, else SCRAM_ITERATIONS */
};

struct sasl {
  /* for the caller to read */
  struct span name;     /* with SASL_CHECK, SASL_LOOKUP, SASL_SUCCESS and SASL_FAILURE (empty: it never came so far). Points into the machine */
  struct span password; /* with SASL_CHECK. Likewise */
  /* private */
  struct sasl_setup _setup; /* its nonce is _nonce */
  uint8_t _nonce[SASL_NONCE_MAX];
  uint8_t _mechanism, _step;
  bool _real; /* SCRAM: the keys are somebody's */
  uint16_t _name_len, _password_len;
  uint16_t _talk_len, _gs2_len, _bare_len; /* of _talk: all; the GS2 header in front; the client's first message behind that */
  uint8_t _name[SECRET_NAME_MAX];
  uint8_t _password[SECRET_PASSWORD_MAX];
  uint8_t _talk[3 * SASL_MESSAGE_MAX + 256]; /* SCRAM: what was said so far: the AuthMessage of RFC 5802 3, behind the GS2 header */
  struct scram_keys _keys;
};

/* `initial` is the base64 text that came with AUTH; "=" is an empty one. `out` is empty. */
must_check enum sasl_event sasl_begin(struct sasl *sasl, enum sasl_mechanism mechanism, const struct sasl_setup *setup, struct span initial,
                                      bool initial_given, struct fmt *out);
/* The client's next line, without CRLF. */
must_check enum sasl_event sasl_take(struct sasl *sasl, struct span line, struct fmt *out);
must_check enum sasl_event sasl_checked(struct sasl *sasl, bool right);
must_check enum sasl_event sasl_keys(struct sasl *sasl, const struct scram_keys *keys, struct fmt *out);
/* All of it, at any time; also when the session ends in between. */
void sasl_wipe(struct sasl *sasl);

#endif
