#include "tests/lib/unit.h"

#include "queue/policy/verdict.h"

struct expectation {
  enum verdict_stage stage;
  unsigned code;
  uint16_t enhanced[3];
  const char *text;
  bool hard;
  const char *category;
};

static void expect_all(const struct expectation *e, unsigned count) {
  for (unsigned i = 0; i < count; i++, e++) {
    struct verdict got = verdict_of(e->stage, e->code, e->enhanced, span_of_text(e->text));
    ck_assert_msg(strcmp(got.category, e->category) == 0 && got.hard == e->hard, "%u %u.%u.%u \"%s\": %s %s by %s", e->code, e->enhanced[0],
                  e->enhanced[1], e->enhanced[2], e->text, got.hard ? "hard" : "soft", got.category, got.rule);
    ck_assert_int_gt((int)strlen(got.rule), 0);
  }
}
#define EXPECT(table) expect_all(table, sizeof(table) / sizeof(table)[0])

START_TEST(hard_by_enhanced_code) {
  const struct expectation table[] = {
      {VERDICT_AT_RCPT,
       550,
       {5, 1, 1},
       "The email account that you tried to reach does not exist. Please try double-checking the recipient's email address",
       true,
       "invalid-recipient"},
      {VERDICT_AT_RCPT,
       550,
       {5, 1, 1},
       "<jane@example.org>: Recipient address rejected: User unknown in virtual mailbox table",
       true,
       "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {5, 1, 1}, "", true, "invalid-recipient"},
      {VERDICT_AT_FINAL, 554, {5, 1, 1}, "unknown", true, "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {5, 1, 2}, "", true, "bad-domain"},
      {VERDICT_AT_RCPT, 553, {5, 1, 3}, "bad syntax", true, "invalid-recipient"},
      {VERDICT_AT_RCPT, 551, {5, 1, 6}, "has moved", true, "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {5, 1, 10}, "RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", true, "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {5, 2, 1}, "The email account that you tried to reach is disabled", true, "inactive-mailbox"},
      {VERDICT_AT_RCPT, 550, {5, 1, 1}, "user unknown; please check the address and try again", true, "invalid-recipient"},
  };
  EXPECT(table);
}
END_TEST

START_TEST(hard_in_plain_words) {
  const struct expectation table[] = {
      {VERDICT_AT_RCPT, 550, {0}, "No such user here", true, "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {0}, "USER  UNKNOWN", true, "invalid-recipient"},
      {VERDICT_AT_RCPT, 551, {0}, "user-unknown", true, "invalid-recipient"},
      {VERDICT_AT_RCPT, 553, {0}, "sorry, mailbox not found", true, "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {5, 0, 0}, "mailbox doesn't exist", true, "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {5, 1, 0}, "Unknown user", true, "invalid-recipient"},
      {VERDICT_AT_FINAL, 550, {0}, "unknown user", true, "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {0}, "<spfister@spamhaus.example>: no such user", true, "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {0}, "spfister: no such user", true, "invalid-recipient"},
  };
  EXPECT(table);
}
END_TEST

START_TEST(soft_where_anything_speaks_against_hard) {
  const struct expectation table[] = {
      {VERDICT_AT_RCPT, 450, {4, 1, 1}, "user unknown", false, "invalid-recipient"},
      {VERDICT_AT_RCPT, 450, {5, 1, 1}, "user unknown", false, "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {4, 1, 1}, "user unknown", false, "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {2, 1, 1}, "user unknown", false, "invalid-recipient"},
      {VERDICT_AT_RCPT, 250, {0}, "user unknown", false, "invalid-recipient"},
      {VERDICT_AT_MAIL, 550, {5, 1, 1}, "user unknown", false, "invalid-recipient"},
      {VERDICT_AT_CONNECT, 550, {5, 1, 1}, "", false, "invalid-recipient"},
      {VERDICT_AT_HELLO, 550, {5, 1, 2}, "", false, "bad-domain"},
      {VERDICT_AT_DATA, 554, {5, 1, 1}, "", false, "invalid-recipient"},
      {VERDICT_AT_RCPT, 554, {0}, "no such user", false, "invalid-recipient"},
      {VERDICT_AT_RCPT, 552, {0}, "no such user", false, "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {5, 7, 1}, "user unknown", false, "policy"},
      {VERDICT_AT_RCPT, 550, {5, 4, 1}, "Recipient address rejected: Access denied", false, "network"},
      {VERDICT_AT_RCPT,
       550,
       {5, 2, 1},
       "The user you are trying to contact is receiving mail at a rate that prevents additional messages",
       false,
       "rate-limited"},
      {VERDICT_AT_RCPT, 550, {5, 1, 1}, "mailbox full", false, "mailbox-full"},
      {VERDICT_AT_RCPT, 550, {0}, "Verification failed for <a@example.net> No Such User Here Sender verify failed", false, "policy"},
      {VERDICT_AT_RCPT, 550, {0}, "mailbox unavailable", false, "unknown"},
      {VERDICT_AT_RCPT, 550, {0}, "<no-such-user@example.org>: refused", false, "unknown"},
      {VERDICT_AT_RCPT, 550, {0}, "xuser unknown", false, "unknown"},
      {VERDICT_AT_RCPT, 550, {0}, "user     unknown", false, "unknown"},
      {VERDICT_AT_RCPT, 550, {0}, "userunknown", false, "unknown"},
      {VERDICT_AT_RCPT, 550, {0}, "account has been disabled", false, "inactive-mailbox"},
      {VERDICT_AT_RCPT, 550, {5, 1, 4}, "", false, "invalid-recipient"},
      {VERDICT_AT_RCPT, 550, {5, 2, 0}, "user unknown", false, "invalid-recipient"}, /* says something else */
  };
  EXPECT(table);
}
END_TEST

START_TEST(categories) {
  const struct expectation table[] = {
      {VERDICT_AT_RCPT, 552, {5, 2, 2}, "", false, "mailbox-full"},
      {VERDICT_AT_RCPT, 552, {0}, "", false, "mailbox-full"},
      {VERDICT_AT_MAIL, 552, {0}, "", false, "size"},
      {VERDICT_AT_FINAL, 552, {5, 3, 4}, "", false, "size"},
      {VERDICT_AT_FINAL, 554, {5, 7, 606}, "Access denied, banned sending IP", false, "policy"},
      {VERDICT_AT_RCPT, 554, {5, 7, 1}, "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.example", false, "blocklist"},
      {VERDICT_AT_FINAL, 550, {5, 7, 1}, "message identified as spam", false, "spam"},
      {VERDICT_AT_CONNECT, 554, {0}, "poor reputation", false, "reputation"},
      {VERDICT_AT_CONNECT, 421, {4, 7, 0}, "Too many connections", false, "rate-limited"},
      {VERDICT_AT_RCPT, 451, {4, 7, 1}, "Greylisted, see http://example.org", false, "greylisted"},
      {VERDICT_AT_RCPT, 451, {4, 7, 1}, "Please try again later", false, "rate-limited"},
      {VERDICT_AT_FINAL, 550, {5, 7, 26}, "", false, "authentication"},
      {VERDICT_AT_FINAL, 550, {5, 7, 1}, "DMARC policy", false, "authentication"},
      {VERDICT_AT_FINAL, 550, {0}, "SPF", false, "authentication"},
      {VERDICT_AT_RCPT, 554, {5, 7, 1}, "Relay access denied", false, "relay-denied"},
      {VERDICT_AT_MAIL, 530, {5, 7, 0}, "Must issue a STARTTLS command first", false, "tls"},
      {VERDICT_AT_MAIL, 530, {0}, "", false, "authentication"},
      {VERDICT_AT_FINAL, 554, {5, 6, 0}, "", false, "content"},
      {VERDICT_AT_MAIL, 501, {0}, "", false, "protocol"},
      {VERDICT_AT_MAIL, 555, {5, 5, 4}, "", false, "protocol"},
      {VERDICT_AT_RCPT, 452, {4, 5, 3}, "", false, "rate-limited"},
      {VERDICT_AT_RCPT, 451, {4, 4, 3}, "", false, "dns"},
      {VERDICT_AT_CONNECT, 554, {0}, "no", false, "policy"},
      {VERDICT_AT_RCPT, 554, {0}, "no", false, "unknown"},
      {VERDICT_AT_RCPT, 556, {0}, "", false, "bad-domain"},
  };
  EXPECT(table);
}
END_TEST

START_TEST(dns) {
  const struct expectation table[] = {
      {VERDICT_AT_DNS, 550, {5, 1, 2}, "", true, "bad-domain"}, {VERDICT_AT_DNS, 556, {5, 1, 10}, "", true, "bad-domain"},
      {VERDICT_AT_DNS, 550, {5, 4, 4}, "", false, "no-mx"},     {VERDICT_AT_DNS, 554, {5, 4, 6}, "", false, "no-mx"},
      {VERDICT_AT_DNS, 451, {4, 4, 3}, "", false, "dns"},       {VERDICT_AT_DNS, 451, {5, 1, 2}, "", false, "dns"},
      {VERDICT_AT_DNS, 550, {4, 1, 10}, "", false, "dns"},
  };
  EXPECT(table);
}
END_TEST

START_TEST(only_the_beginning_of_a_text_is_read) {
  static char text[100000];
  memset(text, 'x', sizeof text - 1);
  memcpy(text + 90000, " no such user ", 14);
  ck_assert(!verdict_of(VERDICT_AT_RCPT, 550, (uint16_t[3]){0}, span_of_text(text)).hard);
  memcpy(text + 2000, " no such user ", 14);
  ck_assert(verdict_of(VERDICT_AT_RCPT, 550, (uint16_t[3]){0}, span_of_text(text)).hard);
  memcpy(text + 2039, " user unknow", 12); /* cut in the middle of a phrase */
  memset(text + 2000, 'x', 14);
  ck_assert(!verdict_of(VERDICT_AT_RCPT, 550, (uint16_t[3]){0}, span_of_text(text)).hard);
}
END_TEST

START_TEST(every_category_has_a_word) {
  for (int i = 0; i < VERDICT_CATEGORIES; i++) {
    const char *word = verdict_category_text((enum verdict_category)i);
    ck_assert_ptr_nonnull(word);
    ck_assert_uint_eq(strspn(word, "abcdefghijklmnopqrstuvwxyz-"), strlen(word));
    for (int j = 0; j < i; j++) ck_assert_str_ne(word, verdict_category_text((enum verdict_category)j));
  }
  ck_assert_str_eq(verdict_category_text((enum verdict_category)99), "unknown");
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, hard_by_enhanced_code);
  tcase_add_test(all, hard_in_plain_words);
  tcase_add_test(all, soft_where_anything_speaks_against_hard);
  tcase_add_test(all, categories);
  tcase_add_test(all, dns);
  tcase_add_test(all, only_the_beginning_of_a_text_is_read);
  tcase_add_test(all, every_category_has_a_word);
  return unit_main("queue/policy/verdict", &all, 1);
}
