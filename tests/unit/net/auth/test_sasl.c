/* Exchanges message by message, in clear: the test puts base64 around them. SCRAM with the vector of RFC 7677 3. */
#include "net/auth/sasl.h"

#include "core/base/error.h"
#include "tests/lib/unit.h"

#define CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define SALT "W22ZaJ0SNY7soEsUEjb6gQ=="
#define FIRST "n,,n=user,r=" CLIENT_NONCE
#define FINAL "c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="

static const struct sasl_setup setup = {.nonce = SPAN(SERVER_NONCE), .secret = SPAN("of this process"), .iterations = 4096};

struct talk {
  struct sasl sasl;
  uint8_t room[SASL_CHALLENGE_MAX];
  struct fmt out;
  uint8_t said[SASL_CHALLENGE_MAX]; /* the challenge, decoded */
  size_t said_len;
};

static enum sasl_event note(struct talk *t, enum sasl_event event) {
  ck_assert(!t->out.overflow && (event == SASL_CHALLENGE || t->out.len == 0));
  ck_assert_int_eq(base64_decode(fmt_span(&t->out), t->said, sizeof t->said, &t->said_len), E_OK);
  t->out.len = 0;
  return event;
}

static struct span encoded(struct span message) {
  static uint8_t room[20000];
  struct fmt text = fmt_over(room, sizeof room);
  base64_encode(&text, message);
  ck_assert(!text.overflow);
  return fmt_span(&text);
}

/* The nonce is gone when it returns, as a shard's is: a client may take its time. */
static enum sasl_event begin_by(struct talk *t, enum sasl_mechanism mechanism, struct span initial, bool given) {
  uint8_t nonce[] = SERVER_NONCE;
  struct sasl_setup own = setup;
  own.nonce = span_of(nonce, sizeof nonce - 1);
  t->out = fmt_over(t->room, sizeof t->room);
  enum sasl_event event = sasl_begin(&t->sasl, mechanism, &own, initial, given, &t->out);
  memset(nonce, ' ', sizeof nonce);
  return note(t, event);
}

static enum sasl_event begin(struct talk *t, enum sasl_mechanism mechanism) { return begin_by(t, mechanism, span_of(NULL, 0), false); }
static enum sasl_event begin_with(struct talk *t, enum sasl_mechanism mechanism, struct span message) {
  return begin_by(t, mechanism, message.len == 0 ? SPAN("=") : encoded(message), true);
}

static enum sasl_event take(struct talk *t, struct span message) { return note(t, sasl_take(&t->sasl, encoded(message), &t->out)); }
static enum sasl_event take_line(struct talk *t, const char *line) { return note(t, sasl_take(&t->sasl, span_of_text(line), &t->out)); }

static void check_said(const struct talk *t, const char *wanted) {
  ck_assert_msg(span_equal(span_of(t->said, t->said_len), span_of_text(wanted)), "%.*s instead of %s", (int)t->said_len, (const char *)t->said,
                wanted);
}

static void check_name(const struct talk *t, const char *name, const char *password) {
  ck_assert(span_equal(t->sasl.name, span_of_text(name)));
  ck_assert(span_equal(t->sasl.password, span_of_text(password)));
}

static bool contains(const struct talk *t, const char *secret) { return memmem(&t->sasl, sizeof t->sasl, secret, strlen(secret)) != NULL; }

START_TEST(names_of_mechanisms) {
  ck_assert_int_eq(sasl_mechanism(SPAN("PLAIN")), SASL_PLAIN);
  ck_assert_int_eq(sasl_mechanism(SPAN("login")), SASL_LOGIN);
  ck_assert_int_eq(sasl_mechanism(SPAN("Scram-Sha-256")), SASL_SCRAM_SHA_256);
  static const char *const others[] = {"", "PLAI", "PLAINT", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "CRAM-MD5"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) ck_assert_int_eq(sasl_mechanism(span_of_text(others[i])), SASL_NONE);
}
END_TEST

/* ---- PLAIN ---- */

START_TEST(plain) {
  struct talk t;
  ck_assert_int_eq(begin(&t, SASL_PLAIN), SASL_CHALLENGE);
  check_said(&t, "");
  ck_assert_int_eq(take(&t, SPAN("\0tim\0tanstaaftanstaaf")), SASL_CHECK); /* RFC 4616 4 */
  check_name(&t, "tim", "tanstaaftanstaaf");
  ck_assert_int_eq(sasl_checked(&t.sasl, true), SASL_SUCCESS);
  check_name(&t, "tim", "");
  ck_assert(!contains(&t, "tanstaaf"));
}
END_TEST

START_TEST(plain_at_once) {
  struct talk t;
  ck_assert_int_eq(begin_with(&t, SASL_PLAIN, SPAN("tim\0tim\0secret")), SASL_CHECK);
  check_name(&t, "tim", "secret");
  ck_assert(contains(&t, "secret"));
  ck_assert_int_eq(sasl_checked(&t.sasl, false), SASL_FAILURE);
  ck_assert(!contains(&t, "secret"));
}
END_TEST

START_TEST(plain_that_fails_or_is_none) {
  static const struct {
    struct span message;
    enum sasl_event event;
  } cases[] = {
      {SPAN(""), SASL_MALFORMED},
      {SPAN("tim"), SASL_MALFORMED},
      {SPAN("\0tim"), SASL_MALFORMED},
      {SPAN("\0\0secret"), SASL_FAILURE},
      {SPAN("\0tim\0"), SASL_FAILURE},
      {SPAN("tom\0tim\0secret"), SASL_FAILURE},
      {SPAN("Tim\0tim\0secret"), SASL_FAILURE},
      {SPAN("\0tim\0sec\0ret"), SASL_FAILURE},
      {SPAN("\0t\nim\0secret"), SASL_FAILURE},
      {SPAN("\0tim\0sec\x7fret"), SASL_FAILURE},
      {SPAN("\0tim\0sec\xc2\x85ret"), SASL_FAILURE}, /* U+0085 */
      {SPAN("\0tim\0sec\xffret"), SASL_FAILURE},
      {SPAN("\0t\xc3\xa4m\0p\xc3\xa4ss"), SASL_CHECK},
      {SPAN("\0t m\0p ss"), SASL_CHECK},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct talk t;
    ck_assert_msg(begin_with(&t, SASL_PLAIN, cases[i].message) == cases[i].event, "%zu", i);
  }
}
END_TEST

START_TEST(how_long_may_be_what) {
  static uint8_t message[2000];
  struct talk t;
  memset(message, 'x', sizeof message);
  message[0] = message[256] = '\0';
  ck_assert_int_eq(begin_with(&t, SASL_PLAIN, span_of(message, 257 + 511)), SASL_CHECK);
  ck_assert_uint_eq(t.sasl.name.len, 255);
  ck_assert_uint_eq(t.sasl.password.len, 511);
  ck_assert_int_eq(begin_with(&t, SASL_PLAIN, span_of(message, 257 + 512)), SASL_FAILURE);
  ck_assert_int_eq(begin_with(&t, SASL_PLAIN, span_of(message, SASL_MESSAGE_MAX + 1)), SASL_MALFORMED);
  message[256] = 'x';
  message[257] = '\0';
  ck_assert_int_eq(begin_with(&t, SASL_PLAIN, span_of(message, 300)), SASL_FAILURE);
}
END_TEST

/* ---- LOGIN ---- */

START_TEST(login) {
  struct talk t;
  ck_assert_int_eq(begin(&t, SASL_LOGIN), SASL_CHALLENGE);
  check_said(&t, "Username:");
  ck_assert_int_eq(take(&t, SPAN("tim")), SASL_CHALLENGE);
  check_said(&t, "Password:");
  ck_assert_int_eq(take(&t, SPAN("secret")), SASL_CHECK);
  check_name(&t, "tim", "secret");
  ck_assert_int_eq(sasl_checked(&t.sasl, true), SASL_SUCCESS);
}
END_TEST

START_TEST(login_with_the_name_at_once) {
  struct talk t;
  ck_assert_int_eq(begin_with(&t, SASL_LOGIN, SPAN("tim")), SASL_CHALLENGE);
  check_said(&t, "Password:");
  ck_assert_int_eq(take(&t, SPAN("")), SASL_FAILURE);
  ck_assert_int_eq(begin_with(&t, SASL_LOGIN, SPAN("")), SASL_FAILURE);
  ck_assert_int_eq(begin_with(&t, SASL_LOGIN, SPAN("t\0m")), SASL_FAILURE);
}
END_TEST

/* ---- what all have in common ---- */

START_TEST(canceled_or_no_base64) {
  static const char *const wrong[] = {"!", "dGlt ", "dGl", "dGlt=", "**", "=", "="};
  for (unsigned m = SASL_PLAIN; m <= SASL_SCRAM_SHA_256; m++) {
    struct talk t;
    ck_assert_int_eq(begin(&t, (enum sasl_mechanism)m), SASL_CHALLENGE);
    ck_assert_int_eq(take_line(&t, "*"), SASL_CANCELED);
    t.out = fmt_over(t.room, sizeof t.room);
    ck_assert_int_eq(sasl_begin(&t.sasl, (enum sasl_mechanism)m, &setup, SPAN("*"), true, &t.out), SASL_CANCELED);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
      ck_assert_int_eq(begin(&t, (enum sasl_mechanism)m), SASL_CHALLENGE);
      ck_assert_int_eq(take_line(&t, wrong[i]), SASL_MALFORMED);
    }
  }
  struct talk t;
  ck_assert_int_eq(begin_with(&t, SASL_LOGIN, SPAN("tim")), SASL_CHALLENGE);
  ck_assert_int_eq(take_line(&t, "*"), SASL_CANCELED);
}
END_TEST

START_TEST(nothing_is_left_after_a_wipe) {
  struct talk t;
  static const struct sasl nothing;
  ck_assert_int_eq(begin_with(&t, SASL_PLAIN, SPAN("\0tim\0secret")), SASL_CHECK);
  sasl_wipe(&t.sasl);
  ck_assert_mem_eq(&t.sasl, &nothing, sizeof nothing);
}
END_TEST

START_TEST(checked_twice) {
  struct talk t;
  ck_assert_int_eq(begin_with(&t, SASL_PLAIN, SPAN("\0tim\0secret")), SASL_CHECK);
  ck_assert_int_eq(sasl_checked(&t.sasl, false), SASL_FAILURE);
  (void)!sasl_checked(&t.sasl, true);
}
END_TEST

/* ---- SCRAM-SHA-256 ---- */

static struct scram_keys keys_of(const char *password) {
  struct scram_keys keys = {.iterations = 4096};
  size_t len;
  ck_assert_int_eq(base64_decode(SPAN(SALT), keys.salt, sizeof keys.salt, &len), E_OK);
  keys.salt_len = (uint8_t)len;
  scram_derive(&keys, span_of_text(password));
  return keys;
}

static enum sasl_event look_up(struct talk *t, const struct scram_keys *keys) { return note(t, sasl_keys(&t->sasl, keys, &t->out)); }

START_TEST(scram) {
  struct scram_keys keys = keys_of("pencil");
  for (unsigned at_once = 0; at_once < 2; at_once++) {
    struct talk t;
    if (at_once) {
      ck_assert_int_eq(begin_with(&t, SASL_SCRAM_SHA_256, SPAN(FIRST)), SASL_LOOKUP);
    } else {
      ck_assert_int_eq(begin(&t, SASL_SCRAM_SHA_256), SASL_CHALLENGE);
      check_said(&t, "");
      ck_assert_int_eq(take(&t, SPAN(FIRST)), SASL_LOOKUP);
    }
    check_name(&t, "user", "");
    ck_assert_int_eq(look_up(&t, &keys), SASL_CHALLENGE);
    check_said(&t, "r=" CLIENT_NONCE SERVER_NONCE ",s=" SALT ",i=4096");
    ck_assert_int_eq(take(&t, SPAN(FINAL)), SASL_CHALLENGE);
    check_said(&t, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    ck_assert_int_eq(take_line(&t, ""), SASL_SUCCESS);
    check_name(&t, "user", "");
    ck_assert(memmem(&t.sasl, sizeof t.sasl, keys.stored, 8) == NULL && memmem(&t.sasl, sizeof t.sasl, keys.server, 8) == NULL);
  }
}
END_TEST

START_TEST(scram_that_is_canceled_at_the_end) {
  struct scram_keys keys = keys_of("pencil");
  struct talk t;
  ck_assert_int_eq(begin_with(&t, SASL_SCRAM_SHA_256, SPAN(FIRST)), SASL_LOOKUP);
  ck_assert_int_eq(look_up(&t, &keys), SASL_CHALLENGE);
  ck_assert_int_eq(take(&t, SPAN(FINAL)), SASL_CHALLENGE);
  ck_assert_int_eq(take_line(&t, "*"), SASL_CANCELED);
  ck_assert_int_eq(begin_with(&t, SASL_SCRAM_SHA_256, SPAN(FIRST)), SASL_LOOKUP);
  ck_assert_int_eq(look_up(&t, &keys), SASL_CHALLENGE);
  ck_assert_int_eq(take(&t, SPAN(FINAL)), SASL_CHALLENGE);
  ck_assert_int_eq(take(&t, SPAN("more")), SASL_MALFORMED);
}
END_TEST

START_TEST(scram_of_nobody_looks_like_a_wrong_password) {
  struct scram_keys wrong = keys_of("pen");
  uint8_t salts[3][200];
  size_t lens[3];
  static const char *const firsts[3] = {"n,,n=nobody,r=" CLIENT_NONCE, "n,,n=nobody,r=" CLIENT_NONCE "x", "n,,n=nobody2,r=" CLIENT_NONCE};
  struct talk t;
  ck_assert_int_eq(begin_with(&t, SASL_SCRAM_SHA_256, SPAN(FIRST)), SASL_LOOKUP);
  ck_assert_int_eq(look_up(&t, &wrong), SASL_CHALLENGE);
  ck_assert_int_eq(take(&t, SPAN(FINAL)), SASL_FAILURE);
  struct scram_keys none = {.iterations = 0};
  for (unsigned i = 0; i < 3; i++) {
    ck_assert_int_eq(begin_with(&t, SASL_SCRAM_SHA_256, span_of_text(firsts[i])), SASL_LOOKUP);
    ck_assert_int_eq(look_up(&t, i == 1 ? &none : NULL), SASL_CHALLENGE);
    const uint8_t *salt = memmem(t.said, t.said_len, ",s=", 3);
    lens[i] = (size_t)(t.said + t.said_len - salt);
    memcpy(salts[i], salt, lens[i]);
    ck_assert_uint_eq(lens[i], strlen(",s=" SALT ",i=4096"));
    ck_assert_int_eq(
        take(&t, i == 1 ? SPAN("c=biws,r=" CLIENT_NONCE "x" SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=") : SPAN(FINAL)),
        SASL_FAILURE);
  }
  ck_assert_mem_eq(salts[0], salts[1], lens[0]);
  ck_assert_mem_ne(salts[0], salts[2], lens[0]);
}
END_TEST

/* A client that knows the keys made up for nobody does not come in either: it is not the salt that keeps it out. */
START_TEST(scram_of_nobody_never_succeeds) {
  uint8_t message[512], digest[SECRET_DIGEST], stored[SECRET_DIGEST];
  struct talk t;
  ck_assert_int_eq(begin_with(&t, SASL_SCRAM_SHA_256, SPAN(FIRST)), SASL_LOOKUP);
  ck_assert_int_eq(look_up(&t, NULL), SASL_CHALLENGE);
  memset(stored, 0, sizeof stored);
  secret_sha256(span_of(stored, sizeof stored), t.sasl._keys.stored); /* ClientKey is zeros: its StoredKey is known */
  struct fmt talk = fmt_over(message, sizeof message);
  fmt_text(&talk, "n=user,r=" CLIENT_NONCE ",");
  fmt_bytes(&talk, t.said, t.said_len);
  fmt_text(&talk, ",c=biws,r=" CLIENT_NONCE SERVER_NONCE);
  secret_hmac(span_of(t.sasl._keys.stored, SECRET_DIGEST), fmt_span(&talk), digest);
  talk.len = 0;
  fmt_text(&talk, "c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p=");
  base64_encode(&talk, span_of(digest, sizeof digest));
  ck_assert_int_eq(take(&t, fmt_span(&talk)), SASL_FAILURE);
}
END_TEST

START_TEST(first_messages) {
  static const struct {
    const char *message;
    enum sasl_event event;
    const char *name;
  } cases[] = {
      {"y,,n=user,r=abc", SASL_LOOKUP, "user"},
      {"n,a=user,n=user,r=abc", SASL_LOOKUP, "user"},
      {"n,a=us=2Cer,n=us=2Cer,r=abc", SASL_LOOKUP, "us,er"},
      {"n,,n=us=3Der=2C,r=abc,x=more", SASL_LOOKUP, "us=er,"},
      {"n,a=other,n=user,r=abc", SASL_FAILURE, "user"},
      {"n,a=,n=user,r=abc", SASL_MALFORMED, ""},
      {"p=tls-unique,,n=user,r=abc", SASL_MALFORMED, ""},
      {"x,,n=user,r=abc", SASL_MALFORMED, ""},
      {"n,n=user,r=abc", SASL_MALFORMED, ""},
      {"n,,r=abc,n=user", SASL_MALFORMED, ""},
      {"n,,m=ext,n=user,r=abc", SASL_MALFORMED, ""},
      {"n,,n=user", SASL_MALFORMED, ""},
      {"n,,n=user,r=", SASL_MALFORMED, ""},
      {"n,,n=user,r=a c", SASL_MALFORMED, ""},
      {"n,,n=us=er,r=abc", SASL_MALFORMED, ""},
      {"n,,n=us=2c,r=abc", SASL_MALFORMED, ""},
      {"n,,n=us=2,r=abc", SASL_MALFORMED, ""},
      {"n,,n=,r=abc", SASL_FAILURE, ""},
      {"n,,n=u\x01,r=abc", SASL_FAILURE, ""},
      {"", SASL_MALFORMED, ""},
      {"n", SASL_MALFORMED, ""},
      {"n,", SASL_MALFORMED, ""},
      {"n,,", SASL_MALFORMED, ""},
      {"n,a", SASL_MALFORMED, ""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct talk t;
    ck_assert_msg(begin_with(&t, SASL_SCRAM_SHA_256, span_of_text(cases[i].message)) == cases[i].event, "%s", cases[i].message);
    ck_assert_msg(span_equal(t.sasl.name, span_of_text(cases[i].name)), "%s", cases[i].message);
  }
}
END_TEST

START_TEST(final_messages) {
  static const struct {
    const char *message;
    enum sasl_event event;
  } cases[] = {
      {FINAL, SASL_CHALLENGE},
      {"c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVU=", SASL_FAILURE},
      {"c=eSws,r=" CLIENT_NONCE SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SASL_FAILURE}, /* "y,," is not what it said first */
      {"c=biws,r=" CLIENT_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SASL_FAILURE},
      {"c=biws,r=" CLIENT_NONCE SERVER_NONCE ",x=1,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SASL_FAILURE},
      {"c=biws,r=" CLIENT_NONCE SERVER_NONCE, SASL_MALFORMED},
      {"c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p=", SASL_MALFORMED},
      {"c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p=dHzb", SASL_MALFORMED},
      {"c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=,x=1", SASL_MALFORMED},
      {"c=biw,r=" CLIENT_NONCE SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SASL_MALFORMED},
      {"r=" CLIENT_NONCE SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SASL_MALFORMED},
      {"", SASL_MALFORMED},
      {"c=biws,r=x,1", SASL_MALFORMED},
  };
  struct scram_keys keys = keys_of("pencil");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct talk t;
    ck_assert_int_eq(begin_with(&t, SASL_SCRAM_SHA_256, SPAN(FIRST)), SASL_LOOKUP);
    ck_assert_int_eq(look_up(&t, &keys), SASL_CHALLENGE);
    ck_assert_msg(take(&t, span_of_text(cases[i].message)) == cases[i].event, "%s", cases[i].message);
  }
}
END_TEST

/* A client that knows the password and signs what it sends, right or not. */
static enum sasl_event finish_with(const char *without_proof) {
  struct scram_keys keys = keys_of("pencil");
  uint8_t room[1024], proof[SECRET_DIGEST];
  struct talk t;
  size_t len;
  ck_assert_int_eq(begin_with(&t, SASL_SCRAM_SHA_256, SPAN(FIRST)), SASL_LOOKUP);
  ck_assert_int_eq(look_up(&t, &keys), SASL_CHALLENGE);
  struct fmt talk = fmt_over(room, sizeof room);
  fmt_text(&talk, "n=user,r=" CLIENT_NONCE ",");
  fmt_bytes(&talk, t.said, t.said_len);
  fmt_char(&talk, ',');
  /* Its key, from the proof of RFC 7677 3 and what that one signed. */
  uint8_t key[SECRET_DIGEST], signature[SECRET_DIGEST];
  size_t common = talk.len;
  fmt_text(&talk, "c=biws,r=" CLIENT_NONCE SERVER_NONCE);
  secret_hmac(span_of(keys.stored, sizeof keys.stored), fmt_span(&talk), signature);
  ck_assert_int_eq(base64_decode(SPAN("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), key, sizeof key, &len), E_OK);
  for (unsigned i = 0; i < sizeof key; i++) key[i] ^= signature[i];
  talk.len = common;
  fmt_text(&talk, without_proof);
  secret_hmac(span_of(keys.stored, sizeof keys.stored), fmt_span(&talk), proof);
  for (unsigned i = 0; i < sizeof proof; i++) proof[i] ^= key[i];
  struct fmt final = fmt_over(room, sizeof room);
  fmt_text(&final, without_proof);
  fmt_text(&final, ",p=");
  base64_encode(&final, span_of(proof, sizeof proof));
  return take(&t, fmt_span(&final));
}

START_TEST(what_is_signed_must_be_what_was_said) {
  ck_assert_int_eq(finish_with("c=biws,r=" CLIENT_NONCE SERVER_NONCE), SASL_CHALLENGE);
  ck_assert_int_eq(finish_with("c=biws,r=" CLIENT_NONCE SERVER_NONCE ",x=1"), SASL_CHALLENGE); /* an extension */
  ck_assert_int_eq(finish_with("c=eSws,r=" CLIENT_NONCE SERVER_NONCE), SASL_FAILURE);          /* another header: "y,," */
  ck_assert_int_eq(finish_with("c=biws,r=" CLIENT_NONCE), SASL_FAILURE);
  ck_assert_int_eq(finish_with("c=biws,r=" CLIENT_NONCE SERVER_NONCE "x"), SASL_FAILURE);
}
END_TEST

/* The longest messages there may be, one after the other: all of them have room. */
START_TEST(scram_as_long_as_possible) {
  static uint8_t first[SASL_MESSAGE_MAX], final[SASL_MESSAGE_MAX];
  static const char nonce[SASL_NONCE_MAX + 1] = "0123456789012345678901234567890123456789012345678901234567890123";
  struct sasl_setup longest = {.nonce = span_of_text(nonce), .secret = SPAN("x"), .iterations = SCRAM_ITERATIONS_MAX};
  struct scram_keys keys = {.iterations = SCRAM_ITERATIONS_MAX, .salt_len = SCRAM_SALT_MAX};
  struct talk t = {.out = fmt_over(t.room, sizeof t.room)};
  memset(first, 'r', sizeof first);
  memcpy(first, "n,,n=u,r=", 9);
  memset(final, 'x', sizeof final);
  memcpy(final, "c=biws,r=", 9);
  memcpy(final + sizeof final - 47, ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", 47);
  ck_assert_int_eq(sasl_begin(&t.sasl, SASL_SCRAM_SHA_256, &longest, encoded(span_of(first, sizeof first)), true, &t.out), SASL_LOOKUP);
  ck_assert_int_eq(look_up(&t, &keys), SASL_CHALLENGE);
  ck_assert_int_eq(take(&t, span_of(final, sizeof final)), SASL_FAILURE);
}
END_TEST

int main(void) {
  TCase *tests = tcase_create("sasl");
  tcase_add_test(tests, names_of_mechanisms);
  tcase_add_test(tests, plain);
  tcase_add_test(tests, plain_at_once);
  tcase_add_test(tests, plain_that_fails_or_is_none);
  tcase_add_test(tests, how_long_may_be_what);
  tcase_add_test(tests, login);
  tcase_add_test(tests, login_with_the_name_at_once);
  tcase_add_test(tests, canceled_or_no_base64);
  tcase_add_test(tests, nothing_is_left_after_a_wipe);
  tcase_add_test_raise_signal(tests, checked_twice, 6); /* SIGABRT, from must() */
  tcase_add_test(tests, scram);
  tcase_add_test(tests, scram_that_is_canceled_at_the_end);
  tcase_add_test(tests, scram_of_nobody_looks_like_a_wrong_password);
  tcase_add_test(tests, scram_of_nobody_never_succeeds);
  tcase_add_test(tests, first_messages);
  tcase_add_test(tests, final_messages);
  tcase_add_test(tests, what_is_signed_must_be_what_was_said);
  tcase_add_test(tests, scram_as_long_as_possible);
  return unit_main_forked("net/auth/sasl", &tests, 1);
}
