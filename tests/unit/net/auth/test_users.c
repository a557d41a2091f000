/* The users file: its lines, what is wrong with them, the table, who may send as whom; and the crypt(3) and SCRAM secrets in it. */
#include "net/auth/users.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/error.h"
#include "tests/lib/unit.h"

#define SCRAM_WORD "scram=4096:W22ZaJ0SNY7soEsUEjb6gQ==:WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static struct users *parse(const char *text) {
  uint8_t room[512];
  struct fmt why = fmt_over(room, sizeof room);
  struct users *users;
  int error = users_parse(&users, span_of_text(text), "users", &why);
  ck_assert_msg(error == E_OK, "%.*s", (int)why.len, (const char *)room);
  return users;
}

static void refuse(struct span text, int wanted, const char *says) {
  char room[513];
  struct fmt why = fmt_over(room, sizeof room - 1);
  struct users *users = (struct users *)room;
  ck_assert_int_eq(users_parse(&users, text, "users", &why), wanted);
  ck_assert_ptr_null(users);
  room[why.len] = '\0';
  ck_assert_msg(strstr(room, says) != NULL, "%s instead of %s", room, says);
}

static bool text_is(struct span text, const char *wanted) { return span_equal(text, span_of_text(wanted)); }

START_TEST(everything_in_a_line) {
  struct users *users = parse("# who may send\n\n  \t\nalice@example.org  password=$6$abcdefgh$x " SCRAM_WORD
                              " senders=@example.org,news-*@example.net,<> per_minute=60 per_hour=1000 per_day=5000 recipients=100 tenant=acme\r\n"
                              "\tbob disabled\ncarol");
  ck_assert_uint_eq(users_count(users), 3);
  const struct user *alice = users_find(users, SPAN("alice@example.org")), *bob = users_find(users, SPAN("bob"));
  ck_assert(alice != NULL && bob != NULL && users_find(users, SPAN("carol")) != NULL);
  ck_assert(users_at(users, 0) == alice && users_at(users, 1) == bob);
  ck_assert_str_eq(alice->hash, "$6$abcdefgh$x");
  ck_assert_uint_eq(alice->scram.iterations, 4096);
  ck_assert_uint_eq(alice->scram.salt_len, 16);
  ck_assert_uint_eq(alice->scram.salt[0], 0x5b);
  ck_assert_uint_eq(alice->per_minute, 60);
  ck_assert_uint_eq(alice->per_hour, 1000);
  ck_assert_uint_eq(alice->per_day, 5000);
  ck_assert_uint_eq(alice->recipients_max, 100);
  ck_assert(text_is(alice->tenant, "acme") && text_is(alice->senders, "@example.org,news-*@example.net,<>") && !alice->disabled);
  ck_assert(bob->disabled && bob->hash[0] == '\0' && bob->scram.iterations == 0 && bob->senders.len == 0 && bob->per_day == 0 &&
            bob->tenant.len == 0);
  ck_assert_ptr_null(users_find(users, SPAN("Bob")));
  ck_assert_ptr_null(users_find(users, SPAN("")));
  ck_assert_ptr_null(users_find(users, SPAN("#")));
  users_drop(users);
}
END_TEST

START_TEST(an_empty_file) {
  struct users *users = parse("");
  ck_assert_uint_eq(users_count(users), 0);
  ck_assert_ptr_null(users_find(users, SPAN("x")));
  users_drop(users);
  users_drop(NULL);
}
END_TEST

START_TEST(what_is_wrong) {
  static const struct {
    const char *text, *says;
  } cases[] = {
      {"a\nb colour=red\n", "users:2: it may have password="},
      {"a disabled=yes\n", "users:1: it may have"},
      {"a password\n", "users:1: it may have"},
      {"a Disabled\n", "users:1: it may have"},
      {"\n\na disabled\n#\na disabled", "users:5: the user 'a' is there already"},
      {"a password=$y$ disabled password=$y$", "users:1: "},
      {"a disabled disabled", "users:1: a word is given twice"},
      {"a\x01 disabled", "users:1: the name must be"},
      {"a\xff", "users:1: the name must be"},
      {"a password=plain!text", "users:1: password= is no hash"},
      {"a password=", "users:1: password= is no hash"},
      {"a password=!$6$saltsalt$x", "users:1: password= is no hash"},
      {"a password=*", "users:1: password= is no hash"},
      {"a scram=", "users:1: scram= must be"},
      {"a scram=4095:W22ZaJ0SNY7soEsUEjb6gQ==:WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
       "scram= must be"},
      {"a scram=1000001:W22ZaJ0SNY7soEsUEjb6gQ==:WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
       "scram= must be"},
      {"a scram=4096:W22Z:WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", "scram= must be"},
      {"a scram=4096:W22ZaJ0SNY7soEsUEjb6gQ==:WG5d:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", "scram= must be"},
      {"a " SCRAM_WORD ":AAAA", "scram= must be"},
      {"a senders=", "senders= is empty"},
      {"a senders=example.org", "senders= must be"},
      {"a senders=a@", "senders= must be"},
      {"a senders=a@b,,c@d", "senders= must be"},
      {"a per_minute=0", "per_minute="},
      {"a per_hour=-1", "must be 1 to"},
      {"a per_day=1000000001", "must be 1 to"},
      {"a recipients=ten", "must be 1 to"},
      {"a tenant=", "tenant= must be"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refuse(span_of_text(cases[i].text), E_SYNTAX, cases[i].says);
  refuse(SPAN("a\0b disabled"), E_SYNTAX, "users:1: the name must be");
  refuse(SPAN("a password=$6$saltsalt$x\0y"), E_SYNTAX, "users:1: there is a control character");
  refuse(SPAN("a senders=@x\r\r\n"), E_SYNTAX, "users:1: there is a control character");
}
END_TEST

START_TEST(how_long_may_be_what) {
  static char line[USERS_LINE_MAX + 100];
  struct user user;
  char hash[SECRET_HASH_MAX + 1];
  memset(line, 'x', sizeof line);
  ck_assert_ptr_null(users_read_line(span_of(line, 255), &user, hash));
  ck_assert_ptr_nonnull(users_read_line(span_of(line, 256), &user, hash));
  memset(line, ' ', sizeof line);
  line[0] = 'a';
  ck_assert_ptr_null(users_read_line(span_of(line, USERS_LINE_MAX), &user, hash));
  ck_assert_ptr_nonnull(users_read_line(span_of(line, USERS_LINE_MAX + 1), &user, hash));
  memset(line, 'x', sizeof line);
  memcpy(line, "a senders=@", 11);
  ck_assert_ptr_null(users_read_line(span_of(line, 10 + USERS_SENDERS_MAX), &user, hash));
  ck_assert_ptr_nonnull(users_read_line(span_of(line, 11 + USERS_SENDERS_MAX), &user, hash));
  memcpy(line, "a tenant=", 9);
  ck_assert_ptr_null(users_read_line(span_of(line, 9 + USERS_TENANT_MAX), &user, hash));
  ck_assert_ptr_nonnull(users_read_line(span_of(line, 10 + USERS_TENANT_MAX), &user, hash));
  memcpy(line, "a password=$6$", 14);
  ck_assert_ptr_null(users_read_line(span_of(line, 11 + SECRET_HASH_MAX), &user, hash));
  ck_assert_ptr_nonnull(users_read_line(span_of(line, 12 + SECRET_HASH_MAX), &user, hash));
}
END_TEST

START_TEST(written_as_it_was_read) {
  static const char *const lines[] = {"alice", "bob disabled",
                                      "carol password=$6$abcdefgh$x " SCRAM_WORD " senders=@example.org,<> per_minute=1 per_hour=2 per_day=3 "
                                      "recipients=4 tenant=acme disabled"};
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    struct user user;
    char hash[SECRET_HASH_MAX + 1], room[1024];
    struct fmt out = fmt_over(room, sizeof room);
    ck_assert_ptr_null(users_read_line(span_of_text(lines[i]), &user, hash));
    users_write_line(&out, &user);
    ck_assert_msg(span_equal(fmt_span(&out), span_of_text(lines[i])), "%.*s", (int)out.len, room);
  }
}
END_TEST

START_TEST(many_users) {
  enum { MANY = 20000 };
  char *text = malloc(MANY * 32), name[32];
  size_t len = 0;
  for (unsigned i = 0; i < MANY; i++) len += (size_t)sprintf(text + len, "user%u per_day=%u\n", i, i + 1);
  struct users *users = parse(text);
  ck_assert_uint_eq(users_count(users), MANY);
  for (unsigned i = 0; i < MANY; i++) {
    sprintf(name, "user%u", i);
    ck_quick(users_find(users, span_of_text(name))->per_day == i + 1);
  }
  struct users *same = users_share(users);
  users_drop(users);
  ck_assert_uint_eq(users_count(same), MANY);
  users_drop(same);
  free(text);
}
END_TEST

/* ---- files ---- */

static int load(const char *path, mode_t mode, char why_room[513]) {
  struct fmt why = fmt_over(why_room, 512);
  struct users *users;
  ck_assert_int_eq(chmod(path, mode), 0);
  int error = users_load(&users, path, &why);
  why_room[why.len] = '\0';
  ck_assert((error == E_OK) == (users != NULL));
  users_drop(users);
  return error;
}

START_TEST(modes_of_the_file) {
  char path[] = "/tmp/ringpost-users-XXXXXX", why[513];
  int handle = mkstemp(path);
  ck_assert_int_ge(handle, 0);
  ck_assert_int_eq(write(handle, "a disabled\n", 11), 11);
  close(handle);
  ck_assert_int_eq(load(path, 0600, why), E_OK);
  ck_assert_int_eq(load(path, 0640, why), E_OK);
  ck_assert_int_eq(load(path, 0400, why), E_OK);
  static const mode_t bad[] = {0644, 0604, 0660, 0601, 0602};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    ck_assert_int_eq(load(path, bad[i], why), E_PERMISSION);
    ck_assert_ptr_nonnull(strstr(why, "others may read or write it"));
  }
  unlink(path);
  struct fmt none = fmt_over(why, 512);
  struct users *users;
  ck_assert_int_eq(users_load(&users, path, &none), E_NOT_FOUND);
  ck_assert(none.len > 0);
}
END_TEST

/* ---- senders ---- */

START_TEST(senders) {
  static const struct {
    const char *patterns, *address;
    bool may;
  } cases[] = {
      {"a@example.org", "a@example.org", true},
      {"a@example.org", "A@Example.ORG", true},
      {"a@example.org", "aa@example.org", false},
      {"a@example.org", "a@example.org.uk", false},
      {"@example.org", "who@example.org", true},
      {"@example.org", "who@sub.example.org", false},
      {"@example.org", "who@badexample.org", false},
      {"@example.org", "\"a@b\"@example.org", true},
      {"@example.org", "\"a@example.org\"@evil.example", false},
      {"@*.example.org", "who@sub.example.org", true},
      {"@*.example.org", "who@example.org", false},
      {"news-*@example.org", "news-1@example.org", true},
      {"news-*@example.org", "news-@example.org", true},
      {"news-*@example.org", "news@example.org", false},
      {"*@*.example.org", "a@b.c.example.org", true},
      {"*", "a@b", true},
      {"*", "", false},
      {"<>", "", true},
      {"@example.org", "", false},
      {"<>", "a@b", false},
      {"a@b,<>,@c", "x@c", true},
      {"a@b,<>,@c", "", true},
      {"a@b,<>,@c", "x@b", false},
      {"*a*b*c*@x", "zzabbcc@x", true},
      {"*a*b*c*@x", "zzacb@x", false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct user user = {.senders = span_of_text(cases[i].patterns)};
    ck_assert_msg(users_may_send(&user, span_of_text(cases[i].address)) == cases[i].may, "%s %s", cases[i].patterns, cases[i].address);
  }
  struct user any = {.name = SPAN("a")};
  ck_assert(users_may_send(&any, SPAN("a@b")) && users_may_send(&any, SPAN("")));
}
END_TEST

/* ---- secrets ---- */

START_TEST(hashes_of_crypt) {
  static const char *const methods[] = {NULL, "$6$", "$5$", "$2b$"}, *const prefixes[] = {"$y$", "$6$", "$5$", "$2b$"};
  struct secret_room *room = secret_room_open();
  for (size_t i = 0; i < 4; i++) {
    char hash[SECRET_HASH_MAX + 1], other[SECRET_HASH_MAX + 1];
    ck_assert_int_eq(secret_hash(SPAN("correct horse"), methods[i], hash), E_OK);
    ck_assert_int_eq(secret_hash(SPAN("correct horse"), methods[i], other), E_OK);
    ck_assert(strncmp(hash, prefixes[i], strlen(prefixes[i])) == 0 && strcmp(hash, other) != 0 && secret_hash_is_valid(hash));
    ck_assert(secret_hash_matches(room, hash, SPAN("correct horse")));
    ck_assert(!secret_hash_matches(room, hash, SPAN("correct horsf")));
    ck_assert(!secret_hash_matches(room, hash, SPAN("correct hors")));
    ck_assert(!secret_hash_matches(room, hash, SPAN("")));
    ck_assert(!secret_hash_matches(room, hash, SPAN("correct horse\0x")));
    hash[strlen(hash) - 1] ^= 1;
    ck_assert(!secret_hash_matches(room, hash, SPAN("correct horse")));
  }
  ck_assert(!secret_hash_matches(room, "", SPAN("x")) && !secret_hash_matches(room, "*0", SPAN("x")) && !secret_hash_matches(room, "!", SPAN("x")));
  secret_room_close(room);
  char hash[SECRET_HASH_MAX + 1];
  ck_assert_int_eq(secret_hash(SPAN("x"), "$nonsense$", hash), E_UNSUPPORTED);
  ck_assert_int_eq(secret_hash(SPAN(""), NULL, hash), E_RANGE);
}
END_TEST

START_TEST(keys_of_scram) {
  struct scram_keys keys, other;
  scram_make(&keys, SPAN("pencil"));
  scram_make(&other, SPAN("pencil"));
  ck_assert(scram_matches(&keys, SPAN("pencil")) && !scram_matches(&keys, SPAN("pencils")) && !scram_matches(&keys, SPAN("")));
  ck_assert_mem_ne(keys.salt, other.salt, SCRAM_SALT_MADE);
  ck_assert_mem_ne(keys.stored, other.stored, SECRET_DIGEST);
  struct scram_keys none = {.iterations = 0};
  ck_assert(!scram_matches(&none, SPAN("pencil")));
  struct user user; /* RFC 7677 3: user, pencil */
  char hash[SECRET_HASH_MAX + 1];
  ck_assert_ptr_null(users_read_line(SPAN("user " SCRAM_WORD), &user, hash));
  ck_assert(scram_matches(&user.scram, SPAN("pencil")) && !scram_matches(&user.scram, SPAN("Pencil")));
}
END_TEST

int main(void) {
  TCase *tests = tcase_create("users");
  tcase_add_test(tests, everything_in_a_line);
  tcase_add_test(tests, an_empty_file);
  tcase_add_test(tests, what_is_wrong);
  tcase_add_test(tests, how_long_may_be_what);
  tcase_add_test(tests, written_as_it_was_read);
  tcase_add_test(tests, many_users);
  tcase_add_test(tests, modes_of_the_file);
  tcase_add_test(tests, senders);
  tcase_add_test(tests, hashes_of_crypt);
  tcase_add_test(tests, keys_of_scram);
  return unit_main("net/auth/users", &tests, 1);
}
