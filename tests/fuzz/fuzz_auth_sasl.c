/*
 * Authentications. First octet: the mechanism, and whether what follows are the lines of a client as they come, or the choices of one that knows the password (or
 * nearly). Never a success without the right password; what is asked has no NUL and fits; nothing secret is left at the end; every challenge is strict base64.
 */
#include <openssl/evp.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "net/auth/sasl.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const struct sasl_setup setup = {.nonce = SPAN("0123456789abcdef"), .secret = SPAN("of this process"), .iterations = 4096};

struct play {
  struct sasl sasl;
  uint8_t room[SASL_CHALLENGE_MAX], challenge[SASL_CHALLENGE_MAX];
  size_t challenge_len;
  bool right; /* some password that was asked for was said to be right */
};

static struct span take_line(struct span *rest) {
  ptrdiff_t end = span_find(*rest, '\n');
  struct span line = end < 0 ? *rest : span_first(*rest, (size_t)end);
  *rest = span_skip(*rest, end < 0 ? rest->len : (size_t)end + 1);
  return line;
}

static bool all_zero(const void *at, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (((const uint8_t *)at)[i] != 0) return false;
  return true;
}

static struct scram_keys keys_of_pencil(void) {
  static struct scram_keys keys;
  if (keys.iterations == 0) {
    keys = (struct scram_keys){.iterations = 4096, .salt_len = SCRAM_SALT_MADE};
    scram_derive(&keys, SPAN("pencil"));
  }
  return keys;
}

/* Answers the machine until it wants a line, or is at its end. */
static enum sasl_event settle(struct play *p, enum sasl_event event, struct fmt *out) {
  if (event == SASL_LOOKUP) {
    struct scram_keys keys = keys_of_pencil();
    must(secret_text_is_valid(p->sasl.name, SECRET_NAME_MAX));
    event = sasl_keys(&p->sasl, p->sasl.name.len % 2 == 0 ? &keys : NULL, out);
  }
  if (event == SASL_CHECK) {
    must(secret_text_is_valid(p->sasl.name, SECRET_NAME_MAX) && secret_text_is_valid(p->sasl.password, SECRET_PASSWORD_MAX));
    p->right = span_equal(p->sasl.password, SPAN("pencil"));
    event = sasl_checked(&p->sasl, p->right);
  }
  must(!out->overflow);
  must(base64_decode(fmt_span(out), p->challenge, sizeof p->challenge, &p->challenge_len) == E_OK && (event == SASL_CHALLENGE || out->len == 0));
  if (event > SASL_LOOKUP) {
    must(p->sasl.password.len == 0 && all_zero(p->sasl._password, sizeof p->sasl._password));
    must(all_zero(p->sasl._talk, sizeof p->sasl._talk) && all_zero(&p->sasl._keys, sizeof p->sasl._keys));
  }
  return event;
}

static void any_lines(enum sasl_mechanism mechanism, bool initial, struct span rest) {
  struct play p = {.right = false};
  struct fmt out = fmt_over(p.room, sizeof p.room);
  enum sasl_event event = settle(&p, sasl_begin(&p.sasl, mechanism, &setup, initial ? take_line(&rest) : span_of(NULL, 0), initial, &out), &out);
  while (event == SASL_CHALLENGE && rest.len > 0) {
    struct span line = take_line(&rest);
    uint8_t *exact = malloc(line.len > 0 ? line.len : 1); /* its end is the end of the memory */
    memcpy(exact, line.at, line.len);
    out.len = 0;
    event = settle(&p, sasl_take(&p.sasl, span_of(exact, line.len), &out), &out);
    free(exact);
  }
  must(event != SASL_SUCCESS || (mechanism != SASL_SCRAM_SHA_256 && p.right));
  sasl_wipe(&p.sasl);
}

static enum sasl_event send_message(struct play *p, struct span message) {
  uint8_t text[BASE64_LENGTH(4096)];
  struct fmt line = fmt_over(text, sizeof text), out = fmt_over(p->room, sizeof p->room);
  base64_encode(&line, message);
  must(!line.overflow);
  return settle(p, sasl_take(&p->sasl, fmt_span(&line), &out), &out);
}

/* ClientProof of RFC 5802 3. */
static void prove(struct span password, struct span talk, uint8_t proof[SECRET_DIGEST]) {
  static const uint8_t salt[SCRAM_SALT_MADE];
  uint8_t salted[SECRET_DIGEST], key[SECRET_DIGEST], stored[SECRET_DIGEST];
  must(PKCS5_PBKDF2_HMAC((const char *)password.at, (int)password.len, salt, sizeof salt, 4096, EVP_sha256(), sizeof salted, salted) == 1);
  secret_hmac(span_of(salted, sizeof salted), SPAN("Client Key"), key);
  secret_sha256(span_of(key, sizeof key), stored);
  secret_hmac(span_of(stored, sizeof stored), talk, proof);
  for (size_t i = 0; i < SECRET_DIGEST; i++) proof[i] ^= key[i];
}

/* A SCRAM client written apart from the machine: it comes in if, and only if, its password is right and its name is somebody's. */
static void true_client(struct span choice) {
  struct play p = {.right = false};
  uint8_t talk_room[4096], final_room[256], proof[SECRET_DIGEST];
  struct fmt out = fmt_over(p.room, sizeof p.room), talk = fmt_over(talk_room, sizeof talk_room), final = fmt_over(final_room, sizeof final_room);
  ptrdiff_t comma = span_find(choice, ',');
  if (comma < 0 || comma > 100 || span_find(span_first(choice, (size_t)comma), '=') >= 0) return;
  struct span name = span_first(choice, (size_t)comma), password = span_skip(choice, (size_t)comma + 1);
  if (password.len == 0 || password.len > SECRET_PASSWORD_MAX) return;
  must(settle(&p, sasl_begin(&p.sasl, SASL_SCRAM_SHA_256, &setup, span_of(NULL, 0), false, &out), &out) == SASL_CHALLENGE);
  fmt_text(&talk, "n,,n=");
  fmt_put(&talk, name);
  fmt_text(&talk, ",r=nonce");
  if (send_message(&p, fmt_span(&talk)) != SASL_CHALLENGE) {
    must(!secret_text_is_valid(name, SECRET_NAME_MAX));
    return;
  }
  fmt_char(&talk, ',');
  fmt_bytes(&talk, p.challenge, p.challenge_len);
  fmt_text(&talk, ",c=biws,r=nonce0123456789abcdef");
  prove(password, span_skip(fmt_span(&talk), 3), proof);
  fmt_text(&final, "c=biws,r=nonce0123456789abcdef,p=");
  base64_encode(&final, span_of(proof, sizeof proof));
  enum sasl_event event = send_message(&p, fmt_span(&final));
  must((event == SASL_CHALLENGE) == (span_equal(password, SPAN("pencil")) && name.len % 2 == 0));
  if (event == SASL_CHALLENGE) must(send_message(&p, span_of(NULL, 0)) == SASL_SUCCESS);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  if (len < 1 || len > 8192) return 0;
  struct span rest = span_of(bytes + 1, len - 1);
  if (bytes[0] % 8 == 7) {
    true_client(rest);
  } else {
    any_lines((enum sasl_mechanism)(1 + bytes[0] % 3), (bytes[0] & 8) != 0, rest);
  }
  return 0;
}
