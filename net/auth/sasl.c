#include "net/auth/sasl.h"

#include "core/base/error.h"

enum step {
  STEP_INVALID = 0,
  STEP_PLAIN,        /* its one message is awaited */
  STEP_LOGIN_NAME,   /* LOGIN: the name */
  STEP_LOGIN_SECRET, /* LOGIN: the password */
  STEP_CHECK,        /* the caller checks the password */
  STEP_SCRAM_FIRST,
  STEP_SCRAM_LOOKUP, /* the caller looks for the keys */
  STEP_SCRAM_FINAL,
  STEP_SCRAM_PROVEN, /* the client is to acknowledge our proof with an empty line */
  STEP_OVER,
};

enum sasl_mechanism sasl_mechanism(struct span name) {
  if (span_equal_nocase(name, SPAN("PLAIN"))) return SASL_PLAIN;
  if (span_equal_nocase(name, SPAN("LOGIN"))) return SASL_LOGIN;
  return span_equal_nocase(name, SPAN("SCRAM-SHA-256")) ? SASL_SCRAM_SHA_256 : SASL_NONE;
}

/* ---- the end, and what is kept ---- */

static enum sasl_event over(struct sasl *sasl, enum sasl_event event) {
  secret_wipe(sasl->_password, sizeof sasl->_password);
  secret_wipe(sasl->_talk, sizeof sasl->_talk);
  secret_wipe(&sasl->_keys, sizeof sasl->_keys);
  sasl->password = span_of(NULL, 0);
  sasl->_password_len = 0;
  sasl->_step = STEP_OVER;
  return event;
}

void sasl_wipe(struct sasl *sasl) { secret_wipe(sasl, sizeof *sasl); }

static bool keep_name(struct sasl *sasl, struct span name) {
  if (!secret_text_is_valid(name, sizeof sasl->_name)) return false;
  memcpy(sasl->_name, name.at, name.len);
  sasl->_name_len = (uint16_t)name.len;
  sasl->name = span_of(sasl->_name, name.len);
  return true;
}

static enum sasl_event check(struct sasl *sasl, struct span password) {
  if (!secret_text_is_valid(password, sizeof sasl->_password)) return over(sasl, SASL_FAILURE);
  memcpy(sasl->_password, password.at, password.len);
  sasl->_password_len = (uint16_t)password.len;
  sasl->password = span_of(sasl->_password, password.len);
  sasl->_step = STEP_CHECK;
  return SASL_CHECK;
}

enum sasl_event sasl_checked(struct sasl *sasl, bool right) {
  must(sasl->_step == STEP_CHECK);
  return over(sasl, right ? SASL_SUCCESS : SASL_FAILURE);
}

static enum sasl_event ask(struct sasl *sasl, struct fmt *out, enum step step, struct span challenge) {
  must(fmt_room(out) >= BASE64_LENGTH(challenge.len));
  base64_encode(out, challenge);
  sasl->_step = (uint8_t)step;
  return SASL_CHALLENGE;
}

/* ---- PLAIN: authzid NUL authcid NUL password ---- */

static enum sasl_event take_plain(struct sasl *sasl, struct span message) {
  ptrdiff_t first = span_find(message, '\0');
  struct span rest = first < 0 ? message : span_skip(message, (size_t)first + 1);
  ptrdiff_t second = first < 0 ? -1 : span_find(rest, '\0');
  if (second < 0) return over(sasl, SASL_MALFORMED);
  struct span identity = span_first(message, (size_t)first), name = span_first(rest, (size_t)second);
  if (!keep_name(sasl, name) || (identity.len > 0 && !span_equal(identity, name))) return over(sasl, SASL_FAILURE);
  return check(sasl, span_skip(rest, (size_t)second + 1));
}

/* ---- LOGIN: never a standard; two questions ---- */

static enum sasl_event take_login_name(struct sasl *sasl, struct span message, struct fmt *out) {
  if (!keep_name(sasl, message)) return over(sasl, SASL_FAILURE);
  return ask(sasl, out, STEP_LOGIN_SECRET, SPAN("Password:"));
}

/* ---- SCRAM-SHA-256, RFC 5802 5 and 7 ---- */

static void say(struct sasl *sasl, struct span text) {
  must(text.len <= sizeof sasl->_talk - sasl->_talk_len);
  if (text.len > 0) memcpy(sasl->_talk + sasl->_talk_len, text.at, text.len);
  sasl->_talk_len += (uint16_t)text.len;
}

/* "x=value" in front of *message, with the comma behind it if there is one. False: it is not there. */
static bool take_attribute(struct span *message, char letter, struct span *value) {
  if (message->len < 2 || message->at[0] != (uint8_t)letter || message->at[1] != '=') return false;
  ptrdiff_t comma = span_find(*message, ',');
  size_t end = comma < 0 ? message->len : (size_t)comma;
  *value = span_skip(span_first(*message, end), 2);
  *message = span_skip(*message, comma < 0 ? end : end + 1);
  return true;
}

/* saslname: "=2C" is a comma, "=3D" an equals sign; any other "=" is wrong. */
static bool read_name(struct span text, uint8_t room[SECRET_NAME_MAX], struct span *name) {
  size_t len = 0;
  while (text.len > 0) {
    bool escaped = text.at[0] == '=';
    if (len == SECRET_NAME_MAX) return false;
    if (escaped && !span_equal(span_first(text, 3), SPAN("=2C")) && !span_equal(span_first(text, 3), SPAN("=3D"))) return false;
    room[len++] = !escaped ? text.at[0] : text.at[1] == '2' ? ',' : '=';
    text = span_skip(text, escaped ? 3 : 1);
  }
  *name = span_of(room, len);
  return true;
}

static bool is_nonce(struct span nonce) {
  for (size_t i = 0; i < nonce.len; i++)
    if (nonce.at[i] < '!' || nonce.at[i] > '~' || nonce.at[i] == ',') return false;
  return nonce.len > 0;
}

/* gs2-header: "n" or "y", a comma, maybe "a=" with an authorization identity, a comma. *message is moved behind it. */
static bool take_header(struct span *message, struct span *identity) {
  *identity = span_of(NULL, 0);
  if (message->len < 3 || (message->at[0] != 'n' && message->at[0] != 'y') || message->at[1] != ',') return false;
  *message = span_skip(*message, 2);
  if (message->at[0] == ',') {
    *message = span_skip(*message, 1);
    return true;
  }
  ptrdiff_t comma = span_find(*message, ',');
  return comma >= 0 && take_attribute(message, 'a', identity) && identity->len > 0;
}

static enum sasl_event take_scram_first(struct sasl *sasl, struct span message) {
  uint8_t rooms[2][SECRET_NAME_MAX];
  struct span rest = message, identity, name, nonce;
  if (!take_header(&rest, &identity)) return over(sasl, SASL_MALFORMED);
  struct span bare = rest;
  size_t header_len = message.len - rest.len;
  if (!take_attribute(&rest, 'n', &name) || !take_attribute(&rest, 'r', &nonce) || !is_nonce(nonce)) return over(sasl, SASL_MALFORMED);
  if (!read_name(name, rooms[0], &name) || !read_name(identity, rooms[1], &identity)) return over(sasl, SASL_MALFORMED);
  if (!keep_name(sasl, name) || (identity.len > 0 && !span_equal(identity, name))) return over(sasl, SASL_FAILURE);
  say(sasl, span_first(message, header_len));
  say(sasl, bare);
  sasl->_gs2_len = (uint16_t)header_len;
  sasl->_bare_len = (uint16_t)bare.len;
  sasl->_step = STEP_SCRAM_LOOKUP;
  return SASL_LOOKUP;
}

/* The same each time for one name, and like chance to whoever does not have the secret. */
static void make_up_keys(struct sasl *sasl) {
  uint8_t text[SECRET_NAME_MAX + 1], digest[SECRET_DIGEST];
  memcpy(text, sasl->_name, sasl->_name_len);
  sasl->_keys = (struct scram_keys){.iterations = sasl->_setup.iterations, .salt_len = SCRAM_SALT_MADE};
  text[sasl->_name_len] = 0;
  secret_hmac(sasl->_setup.secret, span_of(text, sasl->_name_len + 1u), digest);
  memcpy(sasl->_keys.salt, digest, SCRAM_SALT_MADE);
  text[sasl->_name_len] = 1;
  secret_hmac(sasl->_setup.secret, span_of(text, sasl->_name_len + 1u), sasl->_keys.stored);
  memcpy(sasl->_keys.server, sasl->_keys.stored, sizeof sasl->_keys.server);
}

/* The nonce in the client's first message, which is behind the GS2 header in _talk, and was found there before. */
static struct span client_nonce(const struct sasl *sasl) {
  struct span rest = span_of(sasl->_talk + sasl->_gs2_len, sasl->_bare_len), name, nonce;
  bool found = take_attribute(&rest, 'n', &name) && take_attribute(&rest, 'r', &nonce);
  must(found);
  return nonce;
}

enum sasl_event sasl_keys(struct sasl *sasl, const struct scram_keys *keys, struct fmt *out) {
  must(sasl->_step == STEP_SCRAM_LOOKUP);
  sasl->_real = keys != NULL && keys->iterations > 0;
  if (sasl->_real) {
    sasl->_keys = *keys;
  } else {
    make_up_keys(sasl);
  }
  uint8_t room[SASL_MESSAGE_MAX + SASL_NONCE_MAX + BASE64_LENGTH(SCRAM_SALT_MAX) + 32];
  struct fmt first = fmt_over(room, sizeof room);
  fmt_text(&first, "r=");
  fmt_put(&first, client_nonce(sasl));
  fmt_put(&first, sasl->_setup.nonce);
  fmt_text(&first, ",s=");
  base64_encode(&first, span_of(sasl->_keys.salt, sasl->_keys.salt_len));
  fmt_text(&first, ",i=");
  fmt_u64(&first, sasl->_keys.iterations);
  must(!first.overflow);
  say(sasl, SPAN(","));
  say(sasl, fmt_span(&first));
  sasl->_setup = (struct sasl_setup){0};
  return ask(sasl, out, STEP_SCRAM_FINAL, fmt_span(&first));
}

/* The nonce of both, which is in our own first message. */
static struct span whole_nonce(const struct sasl *sasl) {
  size_t start = sasl->_gs2_len + sasl->_bare_len + 1u;
  struct span rest = span_of(sasl->_talk + start, sasl->_talk_len - start), nonce;
  bool found = take_attribute(&rest, 'r', &nonce);
  must(found);
  return nonce;
}

/* ClientKey := ClientProof XOR HMAC(StoredKey, AuthMessage); then H(ClientKey) has to be StoredKey. */
static bool proof_is_right(const struct sasl *sasl, struct span talk, const uint8_t proof[SECRET_DIGEST]) {
  uint8_t key[SECRET_DIGEST], digest[SECRET_DIGEST];
  secret_hmac(span_of(sasl->_keys.stored, sizeof sasl->_keys.stored), talk, key);
  for (size_t i = 0; i < sizeof key; i++) key[i] ^= proof[i];
  secret_sha256(span_of(key, sizeof key), digest);
  bool right = secret_equal(digest, sasl->_keys.stored, sizeof digest) && sasl->_real;
  secret_wipe(key, sizeof key);
  return right;
}

static enum sasl_event prove_ourselves(struct sasl *sasl, struct span talk, struct fmt *out) {
  uint8_t signature[SECRET_DIGEST], room[2 + BASE64_LENGTH(SECRET_DIGEST)];
  struct fmt final = fmt_over(room, sizeof room);
  secret_hmac(span_of(sasl->_keys.server, sizeof sasl->_keys.server), talk, signature);
  fmt_text(&final, "v=");
  base64_encode(&final, span_of(signature, sizeof signature));
  return ask(sasl, out, STEP_SCRAM_PROVEN, fmt_span(&final));
}

/* Extensions may stand between the nonce and the proof, which is the last attribute and part of nothing that is signed. */
static bool split_final(struct span message, struct span *header, struct span *nonce, struct span *unsigned_part) {
  struct span rest = message, ignored;
  if (!take_attribute(&rest, 'c', header) || !take_attribute(&rest, 'r', nonce)) return false;
  while (rest.len > 0 && rest.at[0] != 'p') {
    if (!ascii_is_alpha(rest.at[0]) || !take_attribute(&rest, (char)rest.at[0], &ignored)) return false;
  }
  *unsigned_part = rest;
  return rest.len > 2;
}

static enum sasl_event take_scram_final(struct sasl *sasl, struct span message, struct fmt *out) {
  uint8_t echoed[SASL_MESSAGE_MAX], proof[SECRET_DIGEST];
  struct span header, nonce, rest, proof_text;
  size_t header_len, proof_len;
  if (!split_final(message, &header, &nonce, &rest)) return over(sasl, SASL_MALFORMED);
  size_t signed_len = message.len - rest.len - 1; /* without the comma before the proof */
  if (base64_decode(header, echoed, sizeof echoed, &header_len) != E_OK) return over(sasl, SASL_MALFORMED);
  if (!take_attribute(&rest, 'p', &proof_text) || rest.len > 0) return over(sasl, SASL_MALFORMED);
  if (base64_decode(proof_text, proof, sizeof proof, &proof_len) != E_OK || proof_len != sizeof proof) return over(sasl, SASL_MALFORMED);
  bool same = span_equal(span_of(echoed, header_len), span_of(sasl->_talk, sasl->_gs2_len)) && span_equal(nonce, whole_nonce(sasl));
  say(sasl, SPAN(","));
  say(sasl, span_first(message, signed_len));
  struct span talk = span_of(sasl->_talk + sasl->_gs2_len, (size_t)sasl->_talk_len - sasl->_gs2_len);
  if (!proof_is_right(sasl, talk, proof) || !same) return over(sasl, SASL_FAILURE);
  return prove_ourselves(sasl, talk, out);
}

/* ---- messages ---- */

static enum sasl_event take_message(struct sasl *sasl, struct span message, struct fmt *out) {
  switch ((enum step)sasl->_step) {
  case STEP_PLAIN: return take_plain(sasl, message);
  case STEP_LOGIN_NAME: return take_login_name(sasl, message, out);
  case STEP_LOGIN_SECRET: return check(sasl, message);
  case STEP_SCRAM_FIRST: return take_scram_first(sasl, message);
  case STEP_SCRAM_FINAL: return take_scram_final(sasl, message, out);
  case STEP_SCRAM_PROVEN: return over(sasl, message.len == 0 ? SASL_SUCCESS : SASL_MALFORMED);
  default: must(false);
  }
}

enum sasl_event sasl_take(struct sasl *sasl, struct span line, struct fmt *out) {
  uint8_t message[SASL_MESSAGE_MAX];
  size_t len = 0;
  if (span_equal(line, SPAN("*"))) return over(sasl, SASL_CANCELED);
  enum sasl_event event = SASL_MALFORMED;
  if (base64_decode(line, message, sizeof message, &len) == E_OK) {
    event = take_message(sasl, span_of(message, len), out);
  } else {
    over(sasl, event);
  }
  secret_wipe(message, sizeof message);
  return event;
}

enum sasl_event sasl_begin(struct sasl *sasl, enum sasl_mechanism mechanism, const struct sasl_setup *setup, struct span initial, bool initial_given,
                           struct fmt *out) {
  static const uint8_t first[] = {[SASL_PLAIN] = STEP_PLAIN, [SASL_LOGIN] = STEP_LOGIN_NAME, [SASL_SCRAM_SHA_256] = STEP_SCRAM_FIRST};
  must(mechanism > SASL_NONE && mechanism <= SASL_SCRAM_SHA_256);
  *sasl = (struct sasl){._setup = *setup, ._mechanism = (uint8_t)mechanism, ._step = first[mechanism]};
  if (mechanism == SASL_SCRAM_SHA_256) {
    must(setup->nonce.len >= 16 && setup->nonce.len <= SASL_NONCE_MAX && is_nonce(setup->nonce) && setup->iterations > 0);
    memcpy(sasl->_nonce, setup->nonce.at, setup->nonce.len);
    sasl->_setup.nonce = span_of(sasl->_nonce, setup->nonce.len);
  }
  if (!initial_given) return ask(sasl, out, (enum step)sasl->_step, mechanism == SASL_LOGIN ? SPAN("Username:") : span_of(NULL, 0));
  return sasl_take(sasl, span_equal(initial, SPAN("=")) ? span_of(NULL, 0) : initial, out);
}
