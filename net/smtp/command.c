#include "net/smtp/command.h"

#include <endian.h>

#include "core/base/error.h"

#define NAME_MAX_LEN 255     /* of EHLO's argument: RFC 5321 4.5.3.1.2 */
#define ENVID_MAX_LEN 100    /* RFC 3461 4.4 */
#define ORCPT_MAX_LEN 500    /* RFC 3461 4.2 */
#define SIZE_DIGITS_MAX 20   /* RFC 1870 3 */
#define AUTH_MAX_LEN 500     /* of MAIL's AUTH=: RFC 4954 3 */
#define MECHANISM_MAX_LEN 20 /* RFC 4422 3.1 */

/* ---- names ---- */

/* Four letters as one number, to be compared in one step and switched over. Only letters become letters with 0x20 set. */
#define WORD(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

static uint32_t word_at(const uint8_t *at) {
  uint32_t word;
  memcpy(&word, at, sizeof word);
  return le32toh(word) | 0x20202020;
}

/* The first four letters of a name in lower case, filled up with blanks. */
static uint32_t word_of(struct span name) {
  uint8_t letters[4] = {' ', ' ', ' ', ' '};
  memcpy(letters, name.at, name.len < sizeof letters ? name.len : sizeof letters);
  return word_at(letters);
}

static const struct span fine = {NULL, 0};

/* ---- verbs ---- */

static enum command_verb verb_of_four(uint32_t word) {
  switch (word) {
  case WORD('e', 'h', 'l', 'o'): return COMMAND_EHLO;
  case WORD('h', 'e', 'l', 'o'): return COMMAND_HELO;
  case WORD('m', 'a', 'i', 'l'): return COMMAND_MAIL;
  case WORD('r', 'c', 'p', 't'): return COMMAND_RCPT;
  case WORD('d', 'a', 't', 'a'): return COMMAND_DATA;
  case WORD('b', 'd', 'a', 't'): return COMMAND_BDAT;
  case WORD('r', 's', 'e', 't'): return COMMAND_RSET;
  case WORD('n', 'o', 'o', 'p'): return COMMAND_NOOP;
  case WORD('q', 'u', 'i', 't'): return COMMAND_QUIT;
  case WORD('v', 'r', 'f', 'y'): return COMMAND_VRFY;
  case WORD('h', 'e', 'l', 'p'): return COMMAND_HELP;
  case WORD('a', 'u', 't', 'h'): return COMMAND_AUTH;
  case WORD('e', 'x', 'p', 'n'): /* RFC 5321 4.1.1.7 */
  case WORD('t', 'u', 'r', 'n'): /* RFC 5321 F.1 */
  case WORD('s', 'e', 'n', 'd'): /* these three: RFC 5321 F.6 */
  case WORD('s', 'o', 'm', 'l'):
  case WORD('s', 'a', 'm', 'l'):
  case WORD('e', 't', 'r', 'n'): /* RFC 1985 */
  case WORD('a', 't', 'r', 'n'): /* RFC 2645 */
  case WORD('b', 'u', 'r', 'l'): /* RFC 4468 */ return COMMAND_ABSENT;
  case WORD('p', 'o', 's', 't'):
  case WORD('h', 'e', 'a', 'd'): return COMMAND_FOREIGN;
  default: return COMMAND_UNKNOWN;
  }
}

/* The names that are not four letters long: none of them comes from a sane client, so there is no haste. */
static enum command_verb verb_of_other(struct span name) {
  static const struct {
    struct span name;
    enum command_verb verb;
  } others[] = {
      {SPAN("starttls"), COMMAND_STARTTLS}, {SPAN("get"), COMMAND_FOREIGN},     {SPAN("put"), COMMAND_FOREIGN},     {SPAN("proxy"), COMMAND_FOREIGN},
      {SPAN("pri"), COMMAND_FOREIGN},       {SPAN("connect"), COMMAND_FOREIGN}, {SPAN("options"), COMMAND_FOREIGN}, {SPAN("delete"), COMMAND_FOREIGN},
      {SPAN("patch"), COMMAND_FOREIGN},     {SPAN("trace"), COMMAND_FOREIGN},
  };
  if (name.len > 1 && name.at[name.len - 1] == ':') return COMMAND_FOREIGN; /* a header line, as of HTTP: "Host:", "User-Agent:" */
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
    if (span_equal_nocase(name, others[i].name)) return others[i].verb;
  return COMMAND_UNKNOWN;
}

static bool is_blank(uint8_t c) { return c == ' ' || c == '\t'; }

static struct span skip_blanks(struct span s) {
  while (s.len > 0 && is_blank(s.at[0])) s = span_skip(s, 1);
  return s;
}

enum command_verb command_read(struct span *line) {
  struct span rest = *line;
  while (rest.len > 0 && is_blank(rest.at[rest.len - 1])) rest.len--;
  size_t len = 4;
  enum command_verb verb = COMMAND_UNKNOWN;
  if (likely(rest.len >= 4 && (rest.len == 4 || rest.at[4] == ' '))) {
    verb = verb_of_four(word_at(rest.at));
  } else {
    for (len = 0; len < rest.len && rest.at[len] != ' ';) len++;
    verb = verb_of_other(span_first(rest, len));
  }
  *line = skip_blanks(span_skip(rest, len));
  return verb;
}

/* ---- xtext and numbers ---- */

static int hex_digit(uint8_t c) { return ascii_is_digit(c) ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

/* RFC 3461 4: printable ASCII, but "+" and "=" only as "+2B" and "+3D", and decoded it is printable as well. `utf8`: RFC 6533 3 adds UTF-8. */
static bool xtext_is_valid(struct span text, bool utf8) {
  for (size_t i = 0; i < text.len;) {
    uint8_t c = text.at[i];
    if (c == '+') {
      if (text.len - i < 3) return false;
      int high = hex_digit(text.at[i + 1]), low = hex_digit(text.at[i + 2]);
      if (high < 2 || low < 0 || high > 7 || (high == 7 && low == 15)) return false;
      i += 3;
    } else if (c >= 0x80) {
      size_t len = utf8 ? address_utf8_len(span_skip(text, i)) : 0;
      if (len == 0) return false;
      i += len;
    } else {
      if (c < '!' || c > '~' || c == '=') return false;
      i++;
    }
  }
  return text.len > 0;
}

/* Digits; what is beyond the number's range becomes its greatest value, so that it is beyond every limit. */
static bool read_size(struct span digits, uint64_t *size) {
  if (span_to_u64(digits, size)) return true;
  for (size_t i = 0; i < digits.len; i++)
    if (!ascii_is_digit(digits.at[i])) return false;
  *size = UINT64_MAX;
  return digits.len > 0;
}

/* ---- parameters of MAIL and RCPT ---- */

struct parameter {
  struct span name;
  struct span value; /* empty: none; "NAME=" with nothing behind it is refused before */
};

/* esmtp-param = esmtp-keyword ["=" esmtp-value], RFC 5321 4.1.2. Takes one, with the blanks before it, from the front of *rest. */
static bool parameter_read(struct span *rest, struct parameter *parameter) {
  struct span s = skip_blanks(*rest);
  size_t len = 0;
  while (len < s.len && (ascii_is_alpha(s.at[len]) || ascii_is_digit(s.at[len]) || (s.at[len] == '-' && len > 0))) len++;
  parameter->name = span_first(s, len);
  parameter->value = span_of(NULL, 0);
  s = span_skip(s, len);
  if (len == 0 || (s.len > 0 && s.at[0] != '=' && s.at[0] != ' ')) return false;
  if (s.len > 0 && s.at[0] == '=') {
    s = span_skip(s, 1);
    for (len = 0; len < s.len && s.at[len] > ' ' && s.at[len] != '=' && s.at[len] != 0x7f;) len++;
    if (len == 0 || (len < s.len && s.at[len] != ' ')) return false;
    parameter->value = span_first(s, len);
    s = span_skip(s, len);
  }
  *rest = s;
  return true;
}

static const struct span not_recognized = SPAN("555 5.5.4 Parameter not recognized\r\n");

static bool named(const struct parameter *parameter, const char *name) { return span_equal_nocase(parameter->name, span_of_text(name)); }

/* True, if the parameter did not come before. */
static bool first_time(unsigned *seen, unsigned which) {
  bool first = (*seen & 1u << which) == 0;
  *seen |= 1u << which;
  return first;
}

static struct span mail_size(struct span value, struct smtp_mail *mail) {
  if (value.len > SIZE_DIGITS_MAX || !read_size(value, &mail->size)) return SPAN("501 5.5.4 SIZE must be a number of octets\r\n");
  return fine;
}

static struct span mail_body(struct span value, struct smtp_mail *mail) {
  if (span_equal_nocase(value, SPAN("8BITMIME"))) {
    mail->body = SMTP_BODY_8BITMIME;
  } else if (span_equal_nocase(value, SPAN("BINARYMIME"))) {
    return SPAN("555 5.6.1 BODY=BINARYMIME not implemented\r\n"); /* RFC 5321 4.1.1.11: a parameter that cannot be implemented */
  } else if (!span_equal_nocase(value, SPAN("7BIT"))) {
    return SPAN("501 5.5.4 BODY must be 7BIT or 8BITMIME\r\n");
  }
  return fine;
}

static struct span mail_ret(struct span value, struct smtp_mail *mail) {
  mail->ret = span_equal_nocase(value, SPAN("FULL")) ? SMTP_RET_FULL : span_equal_nocase(value, SPAN("HDRS")) ? SMTP_RET_HEADERS : SMTP_RET_NONE;
  return mail->ret == SMTP_RET_NONE ? SPAN("501 5.5.4 RET must be FULL or HDRS\r\n") : fine;
}

static struct span mail_envid(struct span value, struct smtp_mail *mail) {
  if (value.len > ENVID_MAX_LEN || !xtext_is_valid(value, false)) return SPAN("501 5.5.4 ENVID must be xtext of at most 100 characters\r\n");
  mail->envid = value;
  return fine;
}

static struct span mail_smtputf8(struct span value, struct smtp_mail *mail) {
  if (value.len > 0) return SPAN("501 5.5.4 SMTPUTF8 takes no value\r\n");
  mail->smtputf8 = true;
  return fine;
}

static struct span mail_require_tls(struct span value, struct smtp_mail *mail) {
  if (value.len > 0) return SPAN("501 5.5.4 REQUIRETLS takes no value\r\n");
  mail->require_tls = true;
  return fine;
}

static struct span mail_auth(struct span value) {
  if (value.len > AUTH_MAX_LEN || (!span_equal(value, SPAN("<>")) && !xtext_is_valid(value, false)))
    return SPAN("501 5.5.4 AUTH must be <> or xtext of at most 500 characters\r\n");
  return fine;
}

static struct span rcpt_notify(struct span value, struct smtp_rcpt *rcpt) {
  static const struct span malformed = SPAN("501 5.5.4 NOTIFY must be NEVER, or of SUCCESS,FAILURE,DELAY\r\n");
  for (;;) {
    ptrdiff_t comma = span_find(value, ',');
    struct span word = comma < 0 ? value : span_first(value, (size_t)comma);
    if (span_equal_nocase(word, SPAN("SUCCESS"))) {
      rcpt->notify |= SMTP_NOTIFY_SUCCESS;
    } else if (span_equal_nocase(word, SPAN("FAILURE"))) {
      rcpt->notify |= SMTP_NOTIFY_FAILURE;
    } else if (span_equal_nocase(word, SPAN("DELAY"))) {
      rcpt->notify |= SMTP_NOTIFY_DELAY;
    } else if (span_equal_nocase(word, SPAN("NEVER"))) {
      rcpt->notify |= SMTP_NOTIFY_NEVER;
    } else {
      return malformed;
    }
    if (comma < 0) break;
    value = span_skip(value, (size_t)comma + 1);
  }
  bool never = (rcpt->notify & SMTP_NOTIFY_NEVER) != 0;
  return never && rcpt->notify != SMTP_NOTIFY_NEVER ? malformed : fine;
}

/* RFC 3461 4.2: addr-type ";" xtext; with the type utf-8 (RFC 6533 3), and SMTPUTF8, UTF-8 may stand for itself. */
static struct span rcpt_orcpt(struct span value, bool utf8, struct smtp_rcpt *rcpt) {
  static const struct span malformed = SPAN("501 5.5.4 ORCPT must be type;xtext of at most 500 characters\r\n");
  ptrdiff_t semicolon = span_find(value, ';');
  if (semicolon <= 0 || value.len > ORCPT_MAX_LEN) return malformed;
  struct span type = span_first(value, (size_t)semicolon);
  for (size_t i = 0; i < type.len; i++)
    if (!ascii_is_alpha(type.at[i]) && !ascii_is_digit(type.at[i]) && type.at[i] != '-') return malformed;
  if (!xtext_is_valid(span_skip(value, (size_t)semicolon + 1), utf8 && span_equal_nocase(type, SPAN("utf-8")))) return malformed;
  rcpt->orcpt = value;
  return fine;
}

static struct span mail_parameter(const struct parameter *parameter, struct smtp_mail *mail, unsigned *seen) {
  enum { SIZE, BODY, SMTPUTF8, RET, ENVID, AUTH, REQUIRETLS } which;
  switch (word_of(parameter->name)) {
  case WORD('s', 'i', 'z', 'e'): which = SIZE; break;
  case WORD('b', 'o', 'd', 'y'): which = BODY; break;
  case WORD('s', 'm', 't', 'p'): which = SMTPUTF8; break;
  case WORD('r', 'e', 't', ' '): which = RET; break;
  case WORD('e', 'n', 'v', 'i'): which = ENVID; break;
  case WORD('a', 'u', 't', 'h'): which = AUTH; break;
  case WORD('r', 'e', 'q', 'u'): which = REQUIRETLS; break;
  default: return not_recognized;
  }
  static const char *const names[] = {
      [SIZE] = "SIZE", [BODY] = "BODY", [SMTPUTF8] = "SMTPUTF8", [RET] = "RET", [ENVID] = "ENVID", [AUTH] = "AUTH", [REQUIRETLS] = "REQUIRETLS"};
  if (!named(parameter, names[which])) return not_recognized;
  if (!first_time(seen, which)) return SPAN("501 5.5.4 Parameter given twice\r\n");
  switch (which) {
  case SIZE: return mail_size(parameter->value, mail);
  case BODY: return mail_body(parameter->value, mail);
  case RET: return mail_ret(parameter->value, mail);
  case ENVID: return mail_envid(parameter->value, mail);
  case AUTH: return mail_auth(parameter->value);
  case REQUIRETLS: return mail_require_tls(parameter->value, mail);
  default: return mail_smtputf8(parameter->value, mail);
  }
}

static struct span rcpt_parameter(const struct parameter *parameter, bool utf8, struct smtp_rcpt *rcpt, unsigned *seen) {
  bool notify = named(parameter, "NOTIFY");
  if (!notify && !named(parameter, "ORCPT")) return not_recognized;
  if (!first_time(seen, notify)) return SPAN("501 5.5.4 Parameter given twice\r\n");
  return notify ? rcpt_notify(parameter->value, rcpt) : rcpt_orcpt(parameter->value, utf8, rcpt);
}

/* ---- commands ---- */

static bool is_name_octet(uint8_t c) {
  return ascii_is_alpha(c) || ascii_is_digit(c) || (c >= '-' && c <= '.') || c == '_' || c == ':' || c == '[' || c == ']';
}

struct span command_hello(struct span argument, struct span *name) {
  if (argument.len == 0) return SPAN("501 5.5.4 Your name is missing\r\n");
  if (argument.len > NAME_MAX_LEN) return SPAN("501 5.5.4 Your name is too long\r\n");
  for (size_t i = 0; i < argument.len; i++)
    if (!is_name_octet(argument.at[i])) return SPAN("501 5.5.4 Your name must be a domain name or an address literal\r\n");
  *name = argument;
  return fine;
}

/* "FROM:" or "TO:", and blanks that should not be there. */
static bool skip_keyword(struct span *argument, struct span keyword) {
  if (!span_starts_nocase(*argument, keyword)) return false;
  *argument = skip_blanks(span_skip(*argument, keyword.len));
  return true;
}

struct span command_mail(struct span argument, struct smtp_mail *mail) {
  *mail = (struct smtp_mail){0};
  if (!skip_keyword(&argument, SPAN("FROM:"))) return SPAN("501 5.5.4 Syntax: MAIL FROM:<address> [parameters]\r\n");
  int error = address_parse(&mail->sender, &argument, ADDRESS_REVERSE);
  if (error == E_TOO_LONG) return SPAN("501 5.1.7 Sender address too long\r\n");
  if (error != E_OK || (argument.len > 0 && argument.at[0] != ' ')) return SPAN("501 5.1.7 Bad sender address syntax\r\n");
  unsigned seen = 0;
  while (argument.len > 0) {
    struct parameter parameter;
    if (!parameter_read(&argument, &parameter)) return SPAN("501 5.5.4 Bad parameter syntax\r\n");
    struct span fault = mail_parameter(&parameter, mail, &seen);
    if (fault.len > 0) return fault;
  }
  if (mail->sender.utf8 && !mail->smtputf8) return SPAN("553 5.6.7 Non-ASCII sender address needs SMTPUTF8\r\n"); /* RFC 6531 3.5 */
  return fine;
}

struct span command_rcpt(struct span argument, bool utf8, struct smtp_rcpt *rcpt) {
  *rcpt = (struct smtp_rcpt){0};
  if (!skip_keyword(&argument, SPAN("TO:"))) return SPAN("501 5.5.4 Syntax: RCPT TO:<address> [parameters]\r\n");
  int error = address_parse(&rcpt->recipient, &argument, ADDRESS_FORWARD);
  if (error == E_TOO_LONG) return SPAN("501 5.1.3 Recipient address too long\r\n");
  if (error != E_OK || (argument.len > 0 && argument.at[0] != ' ')) return SPAN("501 5.1.3 Bad recipient address syntax\r\n");
  unsigned seen = 0;
  while (argument.len > 0) {
    struct parameter parameter;
    if (!parameter_read(&argument, &parameter)) return SPAN("501 5.5.4 Bad parameter syntax\r\n");
    struct span fault = rcpt_parameter(&parameter, utf8, rcpt, &seen);
    if (fault.len > 0) return fault;
  }
  if (rcpt->recipient.utf8 && !utf8) return SPAN("553 5.6.7 Non-ASCII recipient address needs SMTPUTF8\r\n");
  return fine;
}

struct span command_bdat(struct span argument, uint64_t *size, bool *last) {
  size_t len = 0;
  while (len < argument.len && argument.at[len] != ' ') len++;
  struct span rest = skip_blanks(span_skip(argument, len));
  *last = rest.len > 0;
  if (!read_size(span_first(argument, len), size) || (*last && !span_equal_nocase(rest, SPAN("LAST"))))
    return SPAN("501 5.5.4 Syntax: BDAT size [LAST]\r\n");
  return fine;
}

struct span command_auth(struct span argument, struct smtp_auth *auth) {
  static const struct span malformed = SPAN("501 5.5.4 Syntax: AUTH mechanism [initial-response]\r\n");
  size_t len = 0;
  while (len < argument.len && argument.at[len] != ' ') len++;
  struct span rest = skip_blanks(span_skip(argument, len));
  *auth = (struct smtp_auth){.mechanism = span_first(argument, len), .initial = rest, .initial_given = rest.len > 0};
  if (len == 0 || len > MECHANISM_MAX_LEN) return malformed;
  for (size_t i = 0; i < len; i++)
    if (!ascii_is_alpha(argument.at[i]) && !ascii_is_digit(argument.at[i]) && argument.at[i] != '-' && argument.at[i] != '_') return malformed;
  for (size_t i = 0; i < rest.len; i++)
    if (rest.at[i] <= ' ' || rest.at[i] > '~') return malformed;
  return fine;
}
