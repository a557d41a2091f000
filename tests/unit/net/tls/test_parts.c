/* The parts by themselves: arithmetic against known answers, certificate files and what is wrong with them, trust, tickets. */
#include <stdlib.h>

#include "bench/lib/certs.h"
#include "core/base/error.h"
#include "net/tls/certificate.h"
#include "net/tls/client.h"
#include "net/tls/crypto.h"
#include "net/tls/server.h"
#include "net/tls/tickets.h"
#include "net/tls/tls.h"
#include "net/tls/trust.h"
#include "tests/lib/tlspair.h"
#include "tests/lib/unit.h"

static char dir[CERTS_PATH];

#define PEM(name) certs_path(dir, name, ".pem")
#define KEY(name) certs_path(dir, name, ".key")

static void make_certificates(void) {
  certs_begin(dir);
  certs_make(dir, "ca", &(struct certs_spec){.common_name = "Test CA", .ca = true});
  certs_make(dir, "middle", &(struct certs_spec){.common_name = "Middle CA", .ca = true, .issuer = "ca"});
  certs_make(dir, "ec",
             &(struct certs_spec){
                 .common_name = "cn.example", .alt_names = "DNS:MX.example.org,DNS:*.wild.example", .issuer = "middle", .with_issuer = true});
  certs_make(dir, "rsa", &(struct certs_spec){.kind = CERTS_RSA, .common_name = "only.cn.example", .issuer = "ca"});
  certs_make(dir, "weak", &(struct certs_spec){.kind = CERTS_RSA_1024, .common_name = "weak"});
  certs_make(dir, "ed", &(struct certs_spec){.kind = CERTS_ED25519, .common_name = "ed"});
  certs_make(dir, "expired", &(struct certs_spec){.common_name = "old", .issuer = "ca", .from_days = -10, .to_days = -1});
  certs_make(dir, "early", &(struct certs_spec){.common_name = "new", .issuer = "ca", .from_days = 5, .to_days = 9});
  certs_make(dir, "nameless", &(struct certs_spec){.issuer = "ca"});
  certs_make(dir, "web", &(struct certs_spec){.alt_names = "DNS:mx.example.org", .issuer = "ca", .usage = "serverAuth"});
  certs_make(dir, "person", &(struct certs_spec){.alt_names = "email:me@example.org", .issuer = "ca", .usage = "clientAuth"});
  certs_write(dir, "empty", ".pem", "", 0);
  certs_write(dir, "text", ".pem", "no PEM at all\n", 14);
  certs_write(dir, "broken", ".pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 59);
  certs_write(dir, "secret", ".key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n", 38);
}

/* ---- arithmetic ---- */

static uint8_t nibble(char c) { return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10); }
static struct span hex(const char *text, uint8_t *room) {
  size_t len = strlen(text) / 2;
  for (size_t i = 0; i < len; i++) room[i] = (uint8_t)(nibble(text[2 * i]) << 4 | nibble(text[2 * i + 1]));
  return span_of(room, len);
}

START_TEST(gcm_as_in_its_specification) {
  /* McGrew, Viega: The Galois/Counter Mode of Operation, test case 4 */
  uint8_t k[16], v[12], a[20], p[60], c[60], t[16], out[60], tag[16];
  struct span key = hex("feffe9928665731c6d6a8f9467308308", k), iv = hex("cafebabefacedbaddecaf888", v),
              aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2", a);
  struct span plain =
      hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39", p);
  struct span cipher =
      hex("42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091", c);
  hex("5bc94fbc3221a5db94fae95ae7121a47", t);
  struct crypto crypto = {0};
  ck_assert(crypto_seal(&crypto.seal, key, iv, aad, plain, out, tag));
  ck_assert(span_equal(span_of(out, sizeof out), cipher) && memcmp(tag, t, 16) == 0);
  memcpy(out, c, sizeof out);
  ck_assert(crypto_open(&crypto.open, key, iv, aad, span_of(out, sizeof out), out, t)); /* in place */
  ck_assert(span_equal(span_of(out, sizeof out), plain));
  t[15] ^= 1;
  ck_assert(!crypto_open(&crypto.open, key, iv, aad, cipher, out, t));
  ck_assert(!crypto_seal(&crypto.seal, span_first(key, 15), iv, aad, plain, out, tag));
  ck_assert(!crypto_seal(&crypto.seal, key, span_first(iv, 11), aad, plain, out, tag));
  crypto_clear(&crypto);
}
END_TEST

START_TEST(a_new_key_is_taken_by_the_same_context) {
  struct crypto crypto = {0}, other = {0};
  uint8_t keys[2][32], iv[12] = {0}, sealed[100], tag[16], plain[100] = "text";
  crypto_random(keys[0], 32), crypto_random(keys[1], 32);
  for (unsigned i = 0; i < 6; i++) { /* also from 16 to 32 bytes and back */
    struct span key = span_of(keys[i % 2], i % 3 == 0 ? 16 : 32);
    ck_assert(crypto_seal(&crypto.seal, key, span_of(iv, 12), SPAN("a"), span_of(plain, 100), sealed, tag));
    ck_assert(crypto_open(&other.open, key, span_of(iv, 12), SPAN("a"), span_of(sealed, 100), sealed, tag));
    ck_assert(memcmp(sealed, plain, 100) == 0);
  }
  crypto_clear(&crypto);
  crypto_clear(&other);
}
END_TEST

START_TEST(key_exchange_agrees_and_knows_its_own_key) {
  struct crypto a = {0}, b = {0};
  uint8_t private_a[48], private_b[48], public_a[97], public_b[97], one[48], two[48];
  ck_assert(crypto_x25519_make(&a, private_a, public_a) && crypto_x25519_make(&b, private_b, public_b));
  ck_assert(crypto_x25519_share(&a, private_a, public_b, one) && crypto_x25519_share(&b, private_b, public_a, two));
  ck_assert(memcmp(one, two, 32) == 0);
  ck_assert(!crypto_x25519_share(&a, private_b, public_b, one)); /* not the key that was kept */
  memset(public_b, 0, 32);
  ck_assert(!crypto_x25519_share(&a, private_a, public_b, one)); /* RFC 7748 section 6.1 */
  for (unsigned bits = 256; bits <= 384; bits += 128) {
    size_t len = 1 + bits / 4;
    ck_assert(crypto_ec_make(&a, bits, private_a, public_a) && crypto_ec_make(&b, bits, private_b, public_b));
    ck_assert(crypto_ec_share(&a, span_of(public_a, len), span_of(public_b, len), one));
    ck_assert(crypto_ec_share(&b, span_of(public_b, len), span_of(public_a, len), two));
    ck_assert(memcmp(one, two, bits / 8) == 0);
    ck_assert(!crypto_ec_share(&a, span_of(public_b, len), span_of(public_b, len), one));
    public_b[len - 1] ^= 1; /* not on the curve */
    ck_assert(!crypto_ec_share(&a, span_of(public_a, len), span_of(public_b, len), one));
  }
  crypto_forget_ephemeral(&a);
  ck_assert(!crypto_ec_share(&a, span_of(public_a, 97), span_of(public_b, 97), one));
  crypto_clear(&a);
  crypto_clear(&b);
}
END_TEST

START_TEST(hmac_as_in_rfc_4231) {
  uint8_t room[100], mac[48], expected[48];
  memset(room, 0x0b, 20);
  hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7", expected);
  crypto_hmac(256, span_of(room, 20), (struct span[]){SPAN("Hi "), SPAN("There")}, 2, mac);
  ck_assert(memcmp(mac, expected, 32) == 0);
  hex("afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6", expected);
  crypto_hmac(384, span_of(room, 20), &SPAN("Hi There"), 1, mac);
  ck_assert(memcmp(mac, expected, 48) == 0);
}
END_TEST

/* ---- files ---- */

static const struct {
  const char *cert, *key;
  int error;
  const char *says;
} files[] = {{"ec", "rsa", E_SYNTAX, "ec.pem: the private key is not that of the first certificate"},
             {"missing", "ec", E_NOT_FOUND, "missing.pem: not found"},
             {"ec", "missing", E_NOT_FOUND, "missing.key: not found"},
             {"text", "ec", E_SYNTAX, "text.pem: no certificate in PEM form"},
             {"empty", "ec", E_SYNTAX, "empty.pem: no certificate in PEM form"},
             {"broken", "ec", E_SYNTAX, "broken.pem: the certificate is damaged"},
             {"ec", "secret", E_SYNTAX, "secret.key: "},
             {"weak", "weak", E_RANGE, "weak.key: an RSA key of less than 2048 bits"},
             {"ed", "ed", E_UNSUPPORTED, "ed.key: keys are RSA, P-256 or P-384"}};

START_TEST(what_is_wrong_with_a_file_is_told) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room - 1), warnings = fmt_over(room, 0);
  struct certificate certificate;
  int error = certificate_load(&certificate, PEM(files[_i].cert), KEY(files[_i].key), tlspair_now_ms(), &why, &warnings);
  room[why.len] = '\0';
  ck_assert_int_eq(error, files[_i].error);
  ck_assert_msg(strstr((char *)room, files[_i].says) != NULL, "%s", room);
  ck_assert_ptr_null(certificate.key);
  struct tls_files pair = {PEM(files[_i].cert), KEY(files[_i].key)};
  struct tls_server *server;
  struct tls_client *client;
  ck_assert_int_eq(tls_server_new(&server, &(struct tls_server_config){.certificates = &pair, .certificate_count = 1}, 1, &why, &warnings),
                   files[_i].error);
  ck_assert_int_eq(tls_client_new(&client, &(struct tls_client_config){.ca = PEM("ca"), .certificate = &pair}, 1, &why, &warnings), files[_i].error);
  ck_assert(server == NULL && client == NULL);
}
END_TEST

static const struct {
  const char *name, *warning;
} odd[] = {{"expired", "expired.pem: the certificate has expired\n"},
           {"early", "early.pem: the certificate is not valid yet\n"},
           {"nameless", "nameless.pem: the certificate is for no host name\n"},
           {"ec", ""}};

START_TEST(what_is_odd_about_a_certificate_is_a_warning) {
  uint8_t room[512], more[256];
  struct fmt why = fmt_over(more, sizeof more), warnings = fmt_over(room, sizeof room - 1);
  struct certificate certificate;
  ck_assert_int_eq(certificate_load(&certificate, PEM(odd[_i].name), KEY(odd[_i].name), tlspair_now_ms(), &why, &warnings), E_OK);
  room[warnings.len] = '\0';
  ck_assert_msg(strstr((char *)room, odd[_i].warning) != NULL && (warnings.len == 0) == (odd[_i].warning[0] == '\0'), "%s", room);
  certificate_clear(&certificate);
}
END_TEST

START_TEST(a_server_without_certificates_or_authorities_is_none) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room), warnings = fmt_over(room, 0);
  struct tls_server *server;
  struct tls_client *client;
  struct tls_files pair = {PEM("ec"), KEY("ec")};
  ck_assert_int_eq(tls_server_new(&server, &(struct tls_server_config){0}, 1, &why, &warnings), E_RANGE);
  ck_assert_int_eq(tls_server_new(&server, &(struct tls_server_config){.certificates = &pair, .certificate_count = 1, .client_ca = PEM("text")}, 1,
                                  &why, &warnings),
                   E_SYNTAX);
  ck_assert_int_eq(tls_client_new(&client, &(struct tls_client_config){.ca = PEM("missing")}, 1, &why, &warnings), E_SYNTAX);
}
END_TEST

static const struct {
  const char *certificate, *host;
  enum certificate_match match;
} matches[] = {{"ec", "mx.example.org", CERTIFICATE_EXACT},
               {"ec", "MX.EXAMPLE.ORG.", CERTIFICATE_EXACT},
               {"ec", "a.wild.example", CERTIFICATE_WILDCARD},
               {"ec", "b.WILD.example", CERTIFICATE_WILDCARD},
               {"ec", "a.b.wild.example", CERTIFICATE_OTHER},
               {"ec", "wild.example", CERTIFICATE_OTHER},
               {"ec", ".wild.example", CERTIFICATE_OTHER},
               {"ec", "cn.example", CERTIFICATE_OTHER},
               {"ec", "*.wild.example", CERTIFICATE_EXACT},
               {"ec", "xwild.example", CERTIFICATE_OTHER},
               {"ec", "", CERTIFICATE_OTHER},
               {"rsa", "only.cn.example", CERTIFICATE_EXACT},
               {"nameless", "", CERTIFICATE_OTHER}};

START_TEST(names_of_a_certificate_match) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room), warnings = fmt_over(room, 0);
  struct certificate certificate;
  ck_assert_int_eq(certificate_load(&certificate, PEM(matches[_i].certificate), KEY(matches[_i].certificate), 1, &why, &warnings), E_OK);
  ck_assert_int_eq(certificate_matches(&certificate, span_of_text(matches[_i].host)), matches[_i].match);
  certificate_clear(&certificate);
}
END_TEST

/* ---- trust ---- */

struct chain {
  uint8_t *der[3];
  struct span spans[3];
  unsigned count;
};

static void add(struct chain *chain, const char *name) {
  size_t len;
  chain->der[chain->count] = certs_der(dir, name, false, &len);
  chain->spans[chain->count] = span_of(chain->der[chain->count], len);
  chain->count++;
}
static void drop(struct chain *chain) {
  for (unsigned i = 0; i < chain->count; i++) free(chain->der[i]);
}

static uint8_t subject_room[128];

static struct tls_trust judge(struct trust_question question, const struct chain *chain) {
  struct fmt subject = fmt_over(subject_room, sizeof subject_room - 1);
  question.chain = chain->spans;
  question.chain_count = chain->count;
  if (question.wall_ms == 0) question.wall_ms = tlspair_now_ms();
  struct tls_trust trust = trust_judge(&question, &subject);
  subject_room[subject.len] = '\0';
  return trust;
}

START_TEST(trust_by_authority_name_date_and_use) {
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room);
  struct trust_store *store = trust_store_load(PEM("ca"), &why);
  struct chain chain = {0}, bare = {0}, person = {0}, web = {0};
  add(&chain, "ec"), add(&chain, "middle"), add(&bare, "ec"), add(&person, "person"), add(&web, "web");
  struct span names[] = {SPAN("other.example"), SPAN("mx.example.org")}, wild = SPAN("a.wild.example"), cn = SPAN("cn.example"),
              odd_name = SPAN("mx.example.org\0.evil");
  struct trust_question question = {.store = store, .policy = TLS_VERIFY, .names = names, .name_count = 2};
  for (unsigned i = 0; i < 3; i++) { /* from the cache too */
    ck_assert_int_eq(judge(question, &chain).by, TLS_TRUSTED);
    ck_assert_str_eq((char *)subject_room, "cn.example");
    ck_assert_str_eq(judge(question, &bare).text, "unable to get local issuer certificate");
    ck_assert(!judge(question, &bare).accepted);
  }
  question.name_count = 1;
  ck_assert_str_eq(judge(question, &chain).text, "hostname mismatch");
  question.names = &wild;
  ck_assert_int_eq(judge(question, &chain).by, TLS_TRUSTED);
  question.names = &cn; /* there are alternative names */
  ck_assert_str_eq(judge(question, &chain).text, "hostname mismatch");
  question.names = &odd_name;
  ck_assert_str_eq(judge(question, &chain).text, "hostname mismatch");
  question.names = names, question.name_count = 2;
  question.wall_ms = tlspair_now_ms() + 400ull * 86400000;
  ck_assert_str_eq(judge(question, &chain).text, "certificate has expired");
  question.wall_ms = tlspair_now_ms() - 400ull * 86400000;
  ck_assert_str_eq(judge(question, &chain).text, "certificate is not yet valid");
  question.wall_ms = 0;
  ck_assert_int_eq(judge(question, &web).by, TLS_TRUSTED);
  question.client = true, question.name_count = 0;
  ck_assert_int_eq(judge(question, &person).by, TLS_TRUSTED);
  ck_assert_str_eq((char *)subject_room, "me@example.org");
  ck_assert_str_eq(judge(question, &web).text, "unsuitable certificate purpose");
  question.client = false;
  ck_assert_str_eq(judge(question, &person).text, "unsuitable certificate purpose");
  question.store = NULL;
  ck_assert_int_eq(judge(question, &chain).by, TLS_UNTRUSTED);
  question.policy = TLS_ANY;
  ck_assert(judge(question, &chain).accepted);
  drop(&chain), drop(&bare), drop(&person), drop(&web);
  trust_store_free(store);
}
END_TEST

START_TEST(what_is_no_certificate_is_not_trusted) {
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room);
  struct trust_store *store = trust_store_load(PEM("ca"), &why);
  struct chain chain = {0}, none = {0};
  struct tls_tlsa tlsa = {3, 0, 0, {0}};
  add(&chain, "ec");
  struct span whole = chain.spans[0];
  struct trust_question question = {.store = store, .policy = TLS_DANE, .tlsa = &tlsa, .tlsa_count = 1};
  for (size_t len = 0; len <= whole.len; len++) {
    chain.spans[0] = tlsa.association = span_first(whole, len);
    ck_quick(judge(question, &chain).accepted == (len == whole.len));
  }
  ck_assert_str_eq(judge(question, &none).text, "no certificate");
  drop(&chain);
  trust_store_free(store);
}
END_TEST

static struct span digest_of(const char *name, bool key_only, uint8_t digest[32]) {
  size_t len;
  uint8_t *der = certs_der(dir, name, key_only, &len);
  crypto_sha256(&(struct span){der, len}, 1, digest);
  free(der);
  return span_of(digest, 32);
}

START_TEST(dane_matches_as_its_records_say) {
  uint8_t digests[6][32];
  struct chain chain = {0}, expired = {0};
  add(&chain, "ec"), add(&chain, "middle"), add(&chain, "ca"), add(&expired, "expired");
  struct span name = SPAN("mx.example.org"), wrong = SPAN("wrong.example");
  struct tls_tlsa tlsa;
  struct trust_question question = {.policy = TLS_DANE, .tlsa = &tlsa, .tlsa_count = 1, .names = &name, .name_count = 1};
  tlsa = (struct tls_tlsa){3, 0, 1, digest_of("ec", false, digests[0])};
  ck_assert_int_eq(judge(question, &chain).by, TLS_TRUSTED_EE);
  tlsa = (struct tls_tlsa){3, 1, 1, digest_of("ec", true, digests[1])};
  ck_assert_int_eq(judge(question, &chain).by, TLS_TRUSTED_EE);
  question.names = &wrong; /* RFC 7672 section 3.1.1: usage 3 asks for no name */
  ck_assert_int_eq(judge(question, &chain).by, TLS_TRUSTED_EE);
  tlsa = (struct tls_tlsa){3, 1, 1, digest_of("expired", true, digests[2])};
  ck_assert_int_eq(judge(question, &expired).by, TLS_TRUSTED_EE); /* nor for a date */
  ck_assert_str_eq(judge(question, &chain).text, "no TLSA record matches");
  tlsa = (struct tls_tlsa){2, 0, 1, digest_of("ca", false, digests[3])};
  ck_assert_str_eq(judge(question, &chain).text, "hostname mismatch"); /* usage 2 does */
  question.names = &name;
  ck_assert_int_eq(judge(question, &chain).by, TLS_TRUSTED_TA);
  tlsa = (struct tls_tlsa){2, 1, 1, digest_of("middle", true, digests[4])};
  ck_assert_int_eq(judge(question, &chain).by, TLS_TRUSTED_TA);
  question.wall_ms = tlspair_now_ms() + 400ull * 86400000;
  ck_assert_str_eq(judge(question, &chain).text, "certificate has expired");
  question.wall_ms = 0;
  tlsa = (struct tls_tlsa){2, 0, 1, digest_of("ec", false, digests[0])}; /* the leaf is no authority */
  ck_assert_str_eq(judge(question, &chain).text, "no TLSA record matches");
  tlsa = (struct tls_tlsa){2, 0, 1, digest_of("rsa", false, digests[5])};
  ck_assert_str_eq(judge(question, &chain).text, "no TLSA record matches");
  chain.count = 1; /* a chain without the authority; DNS has all of it */
  tlsa = (struct tls_tlsa){2, 0, 0, chain.spans[1]};
  ck_assert_int_eq(judge(question, &chain).by, TLS_TRUSTED_TA);
  tlsa = (struct tls_tlsa){2, 0, 0, chain.spans[2]};
  ck_assert_str_eq(judge(question, &chain).text, "unable to get local issuer certificate");
  chain.count = 3;
  chain.spans[1] = expired.spans[0]; /* an authority that has signed nothing of this chain */
  tlsa = (struct tls_tlsa){2, 0, 0, chain.spans[2]};
  ck_assert(!judge(question, &chain).accepted);
  drop(&chain), drop(&expired);
}
END_TEST

START_TEST(records_that_cannot_match_are_unusable) {
  uint8_t bytes[64] = {0};
  for (unsigned usage = 0; usage < 5; usage++)
    for (unsigned selector = 0; selector < 3; selector++)
      for (unsigned matching = 0; matching < 4; matching++)
        for (unsigned len = 0; len <= 64; len++) {
          struct tls_tlsa tlsa = {(uint8_t)usage, (uint8_t)selector, (uint8_t)matching, span_of(bytes, len)};
          bool fits = matching == 0 ? len > 0 : (matching == 1 && len == 32) || (matching == 2 && len == 64);
          ck_quick(trust_tlsa_usable(&tlsa) == ((usage == 2 || usage == 3) && selector < 2 && fits));
        }
}
END_TEST

/* ---- tickets ---- */

START_TEST(tickets_open_for_their_time_and_host) {
  struct tls_tickets *tickets = tls_tickets_new(100);
  uint8_t name[TICKETS_NAME], iv[TICKETS_IV], mac[TICKETS_MAC], ticket[200], copy[200];
  memset(ticket, 7, sizeof ticket);
  ck_assert(tickets_seal(tickets, 1000000, SPAN("a"), name, iv, mac, ticket, sizeof ticket));
  static const struct {
    uint64_t ms;
    const char *host;
    enum tickets_result result;
  } tries[] = {{1000000, "a", TICKETS_OPENED}, {1099999, "a", TICKETS_OPENED}, {1000000, "b", TICKETS_REJECTED}, {900000, "a", TICKETS_OPENED},
               {1100000, "a", TICKETS_OLD},    {1199999, "a", TICKETS_OLD},    {1200000, "a", TICKETS_REJECTED}, {1000000, "a", TICKETS_REJECTED}};
  for (unsigned i = 0; i < sizeof tries / sizeof *tries; i++) {
    memcpy(copy, ticket, sizeof copy);
    enum tickets_result result = tickets_open(tickets, tries[i].ms, span_of_text(tries[i].host), name, iv, mac, copy, sizeof copy);
    ck_assert_msg(result == tries[i].result, "try %u: %d", i, (int)result);
    if (result != TICKETS_REJECTED) ck_assert(copy[0] == 7 && copy[199] == 7);
  }
  tls_tickets_put(tickets);
}
END_TEST

START_TEST(a_key_that_was_long_in_use_opens_no_longer_for_that) {
  struct tls_tickets *tickets = tls_tickets_new(100);
  uint8_t name[TICKETS_NAME], iv[TICKETS_IV], mac[TICKETS_MAC], ticket[64] = {0}, copy[64] = {0}, other_name[TICKETS_NAME];
  ck_assert(tickets_seal(tickets, 1000000, SPAN("a"), name, iv, mac, ticket, sizeof ticket));
  uint8_t other_iv[TICKETS_IV], other_mac[TICKETS_MAC];
  ck_assert(tickets_seal(tickets, 1150000, SPAN("a"), other_name, other_iv, other_mac, copy, sizeof copy)); /* nobody came in between */
  ck_assert(memcmp(name, other_name, sizeof name) != 0);
  ck_assert_int_eq(tickets_open(tickets, 1200000, SPAN("a"), name, iv, mac, ticket, sizeof ticket), TICKETS_REJECTED);
  ck_assert_int_eq(tickets_open(tickets, 1200000, SPAN("a"), other_name, other_iv, other_mac, copy, sizeof copy), TICKETS_OPENED);
  tls_tickets_put(tickets);
}
END_TEST

START_TEST(a_ticket_that_was_changed_is_rejected) {
  struct tls_tickets *tickets = tls_tickets_new(100), *others = tls_tickets_new(100);
  struct {
    uint8_t name[TICKETS_NAME], iv[TICKETS_IV], mac[TICKETS_MAC], ticket[64];
  } sealed = {.ticket = {1}}, changed;
  ck_assert(tickets_seal(tickets, 1000, SPAN("a"), sealed.name, sealed.iv, sealed.mac, sealed.ticket, sizeof sealed.ticket));
  for (size_t i = 0; i < sizeof changed; i++) {
    changed = sealed;
    ((uint8_t *)&changed)[i] ^= 0x10;
    bool unused = i >= TICKETS_NAME + 12 && i < TICKETS_NAME + TICKETS_IV;
    enum tickets_result result = tickets_open(tickets, 1000, SPAN("a"), changed.name, changed.iv, changed.mac, changed.ticket, sizeof changed.ticket);
    ck_quick((result == TICKETS_OPENED) == unused);
  }
  changed = sealed;
  ck_assert_int_eq(tickets_open(others, 1000, SPAN("a"), changed.name, changed.iv, changed.mac, changed.ticket, sizeof changed.ticket),
                   TICKETS_REJECTED);
  tls_tickets_put(tickets);
  tls_tickets_put(others);
}
END_TEST

#define LOOP(tcase, test, table) tcase_add_loop_test(tcase, test, 0, sizeof(table) / sizeof *(table))

int main(void) {
  uint8_t room[256];
  struct fmt why = fmt_over(room, sizeof room);
  if (tls_init(TLS_LIBCRYPTO, &why) != E_OK) return 1;
  make_certificates();
  TCase *parts = tcase_create("parts");
  tcase_set_timeout(parts, 30);
  tcase_add_test(parts, gcm_as_in_its_specification);
  tcase_add_test(parts, a_new_key_is_taken_by_the_same_context);
  tcase_add_test(parts, key_exchange_agrees_and_knows_its_own_key);
  tcase_add_test(parts, hmac_as_in_rfc_4231);
  LOOP(parts, what_is_wrong_with_a_file_is_told, files);
  LOOP(parts, what_is_odd_about_a_certificate_is_a_warning, odd);
  tcase_add_test(parts, a_server_without_certificates_or_authorities_is_none);
  LOOP(parts, names_of_a_certificate_match, matches);
  tcase_add_test(parts, trust_by_authority_name_date_and_use);
  tcase_add_test(parts, what_is_no_certificate_is_not_trusted);
  tcase_add_test(parts, dane_matches_as_its_records_say);
  tcase_add_test(parts, records_that_cannot_match_are_unusable);
  tcase_add_test(parts, tickets_open_for_their_time_and_host);
  tcase_add_test(parts, a_key_that_was_long_in_use_opens_no_longer_for_that);
  tcase_add_test(parts, a_ticket_that_was_changed_is_rejected);
  int failed = unit_main("net/tls/parts", (TCase *const[]){parts}, 1);
  certs_end(dir);
  return failed;
}
