#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "net/out/outcome.h"

static uint8_t room[512];
static struct fmt text;

static struct decision decide(const struct failure *failure) {
  struct decision decision;
  text = fmt_over(room, sizeof room - 1);
  outcome_decide(failure, &decision, &text);
  ck_assert(!text.overflow);
  room[text.len] = '\0';
  return decision;
}

static struct decision decide_reply(enum smtp_client_stage stage, const char *line, bool alone) {
  char bytes[512];
  snprintf(bytes, sizeof bytes, "%s\r\n", line);
  struct span in = span_of_text(bytes);
  struct smtp_reply reply = {0};
  ck_assert_int_eq(reply_parse(&reply, &in), 1);
  return decide(&(struct failure){.kind = FAILURE_REPLY, .stage = stage, .reply = &reply, .pipelined = true, .alone = alone, .crowded = !alone});
}

START_TEST(no_room_for_the_only_recipient_is_no_limit_of_their_number) {
  const struct {
    const char *line;
    enum fate crowded, alone;
  } table[] = {
      {"452 no more", FATE_AGAIN, FATE_DEFERRED},
      {"452 4.5.3 too many recipients", FATE_AGAIN, FATE_DEFERRED},
      {"552 no more", FATE_AGAIN, FATE_FAILED},
      {"552 5.5.3 too many recipients", FATE_AGAIN, FATE_DEFERRED},
      {"452 4.2.2 over quota", FATE_DEFERRED, FATE_DEFERRED},
  };
  for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
    ck_assert_int_eq(decide_reply(SMTP_STAGE_RCPT, table[i].line, false).fate, table[i].crowded);
    ck_assert_int_eq(decide_reply(SMTP_STAGE_RCPT, table[i].line, true).fate, table[i].alone);
  }
}
END_TEST

START_TEST(replies) {
  const struct {
    enum smtp_client_stage stage;
    const char *line;
    enum scope scope;
    enum fate fate;
    const char *category;
  } table[] = {
      {SMTP_STAGE_GREETING, "554 no SMTP service here", SCOPE_HOST, FATE_AGAIN, "policy"},
      {SMTP_STAGE_GREETING, "450 busy", SCOPE_HOST, FATE_AGAIN, "unknown"},
      {SMTP_STAGE_GREETING, "421 4.7.0 too many connections", SCOPE_HOST, FATE_AGAIN, "rate-limited"},
      {SMTP_STAGE_EHLO, "550 who are you", SCOPE_HOST, FATE_AGAIN, "policy"},
      {SMTP_STAGE_EHLO, "421 later", SCOPE_HOST, FATE_AGAIN, "unknown"},
      {SMTP_STAGE_STARTTLS, "454 4.7.0 TLS not available", SCOPE_HOST, FATE_AGAIN, "policy"},
      {SMTP_STAGE_AUTH, "535 5.7.8 who are you", SCOPE_HOST, FATE_AGAIN, "authentication"},
      {SMTP_STAGE_MAIL, "421 enough for this connection", SCOPE_CONNECTION, FATE_AGAIN, "unknown"},
      {SMTP_STAGE_RCPT, "421 shutting down", SCOPE_CONNECTION, FATE_AGAIN, "unknown"},
      {SMTP_STAGE_FINAL, "421 shutting down", SCOPE_CONNECTION, FATE_AGAIN, "unknown"},
      {SMTP_STAGE_IDLE, "421 4.4.2 idle", SCOPE_CONNECTION, FATE_AGAIN, "network"},
      {SMTP_STAGE_MAIL, "451 4.3.0 later", SCOPE_MESSAGE, FATE_DEFERRED, "unknown"},
      {SMTP_STAGE_MAIL, "452 4.3.1 full", SCOPE_MESSAGE, FATE_DEFERRED, "mailbox-full"},
      {SMTP_STAGE_MAIL, "550 5.7.1 no", SCOPE_MESSAGE, FATE_FAILED, "policy"},
      {SMTP_STAGE_MAIL, "552 too big", SCOPE_MESSAGE, FATE_FAILED, "size"},
      {SMTP_STAGE_RCPT, "250 2.1.5 ok", SCOPE_RECIPIENT, FATE_INVALID, NULL},
      {SMTP_STAGE_RCPT, "450 4.2.0 greylisted", SCOPE_RECIPIENT, FATE_DEFERRED, "greylisted"},
      {SMTP_STAGE_RCPT, "550 5.1.1 unknown", SCOPE_RECIPIENT, FATE_FAILED, "invalid-recipient"},
      {SMTP_STAGE_RCPT, "452 4.5.3 too many recipients", SCOPE_RECIPIENT, FATE_AGAIN, "rate-limited"},
      {SMTP_STAGE_RCPT, "452 no more", SCOPE_RECIPIENT, FATE_AGAIN, "mailbox-full"},
      {SMTP_STAGE_RCPT, "552 5.5.3 too many recipients", SCOPE_RECIPIENT, FATE_AGAIN, "rate-limited"},
      {SMTP_STAGE_RCPT, "452 4.2.2 over quota", SCOPE_RECIPIENT, FATE_DEFERRED, "mailbox-full"},
      {SMTP_STAGE_RCPT, "552 5.2.2 over quota", SCOPE_RECIPIENT, FATE_FAILED, "mailbox-full"},
      {SMTP_STAGE_RCPT, "354 what", SCOPE_CONNECTION, FATE_DEFERRED, "unknown"},
      {SMTP_STAGE_DATA, "451 later", SCOPE_MESSAGE, FATE_DEFERRED, "unknown"},
      {SMTP_STAGE_DATA, "554 no valid recipients", SCOPE_MESSAGE, FATE_FAILED, "unknown"},
      {SMTP_STAGE_DATA, "250 ok", SCOPE_CONNECTION, FATE_DEFERRED, "unknown"},
      {SMTP_STAGE_CONTENT, "451 later", SCOPE_MESSAGE, FATE_DEFERRED, "unknown"},
      {SMTP_STAGE_CONTENT, "552 5.3.4 too big", SCOPE_MESSAGE, FATE_FAILED, "size"},
      {SMTP_STAGE_FINAL, "250 2.0.0 queued", SCOPE_MESSAGE, FATE_DELIVERED, NULL},
      {SMTP_STAGE_FINAL, "451 4.3.0 later", SCOPE_MESSAGE, FATE_DEFERRED, "unknown"},
      {SMTP_STAGE_FINAL, "554 5.7.1 spam message", SCOPE_MESSAGE, FATE_FAILED, "spam"},
      {SMTP_STAGE_RSET, "500 what", SCOPE_CONNECTION, FATE_AGAIN, "protocol"},
      {SMTP_STAGE_QUIT, "221 bye", SCOPE_CONNECTION, FATE_AGAIN, "unknown"},
  };
  for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
    struct decision got = decide_reply(table[i].stage, table[i].line, false);
    ck_assert_msg(got.scope == table[i].scope && got.fate == table[i].fate, "%s: scope %d, fate %d", table[i].line, got.scope, got.fate);
    ck_assert_uint_eq(got.code, (unsigned)atoi(table[i].line));
    ck_assert(!got.maybe_duplicate && !got.without_pipelining);
    if (table[i].category == NULL)
      ck_assert_ptr_null(got.verdict.category);
    else
      ck_assert_str_eq(got.verdict.category, table[i].category);
  }
}
END_TEST

START_TEST(reply_is_reported_as_it_came) {
  struct decision got = decide_reply(SMTP_STAGE_RCPT, "550-5.7.606 Access\r\n550 5.7.606 denied", false);
  ck_assert_str_eq((char *)room, "Access denied");
  ck_assert_uint_eq(got.enhanced[0], 5);
  ck_assert_uint_eq(got.enhanced[1], 7);
  ck_assert_uint_eq(got.enhanced[2], 606);
  got = decide_reply(SMTP_STAGE_RCPT, "550 no", false);
  ck_assert_uint_eq(got.enhanced[0], 0);
}
END_TEST

START_TEST(hard_only_where_it_is_clear_who_is_meant) {
  ck_assert(decide_reply(SMTP_STAGE_RCPT, "550 5.1.1 unknown", false).verdict.hard);
  ck_assert(!decide_reply(SMTP_STAGE_FINAL, "550 5.1.1 unknown", false).verdict.hard);
  ck_assert(decide_reply(SMTP_STAGE_FINAL, "550 5.1.1 unknown", true).verdict.hard);
  ck_assert(!decide_reply(SMTP_STAGE_MAIL, "550 5.1.1 unknown", true).verdict.hard);
  ck_assert(!decide_reply(SMTP_STAGE_GREETING, "550 5.1.1 unknown", true).verdict.hard);
}
END_TEST

START_TEST(odd_answer_to_the_content_may_mean_yes) {
  struct decision got = decide_reply(SMTP_STAGE_FINAL, "354 go on", true);
  ck_assert_int_eq(got.scope, SCOPE_CONNECTION);
  ck_assert_int_eq(got.fate, FATE_DEFERRED);
  ck_assert(got.maybe_duplicate);
}
END_TEST

struct network_case {
  struct failure failure;
  enum scope scope;
  enum fate fate;
  bool maybe_duplicate, without_pipelining;
  unsigned code, enhanced[3];
  const char *category, *text;
};

static void expect(const struct network_case *e) {
  struct decision got = decide(&e->failure);
  ck_assert_str_eq((char *)room, e->text);
  ck_assert_msg(got.scope == e->scope && got.fate == e->fate, "%s: scope %d, fate %d", e->text, got.scope, got.fate);
  ck_assert_msg(got.maybe_duplicate == e->maybe_duplicate && got.without_pipelining == e->without_pipelining, "%s", e->text);
  ck_assert_uint_eq(got.code, e->code);
  for (unsigned i = 0; i < 3; i++) ck_assert_uint_eq(got.enhanced[i], e->enhanced[i]);
  ck_assert_pstr_eq(got.verdict.category, e->category);
  ck_assert((got.verdict.rule != NULL) == (e->category != NULL));
}

#define NET(at, what, ...)                                                                                                                           \
  { .kind = FAILURE_NETWORK, .stage = SMTP_STAGE_##at, .error = what, ##__VA_ARGS__ }

START_TEST(network) {
  const struct network_case table[] = {
      {NET(GREETING, E_REFUSED, .connecting = true), SCOPE_HOST, FATE_AGAIN, false, false, 421, {4, 4, 1}, "network", "connect: connection refused"},
      {NET(GREETING, E_UNREACHABLE, .connecting = true),
       SCOPE_HOST,
       FATE_AGAIN,
       false,
       false,
       421,
       {4, 4, 1},
       "network",
       "connect: host unreachable"},
      {NET(GREETING, E_TIMEOUT, .connecting = true), SCOPE_HOST, FATE_AGAIN, false, false, 421, {4, 4, 1}, "timeout", "connect: timed out"},
      {NET(GREETING, E_TOO_MANY_FILES, .connecting = true),
       SCOPE_CONNECTION,
       FATE_POSTPONED,
       false,
       false,
       451,
       {4, 3, 0},
       "unknown",
       "connect: too many open files"},
      {NET(GREETING, E_TIMEOUT), SCOPE_HOST, FATE_AGAIN, false, false, 421, {4, 4, 2}, "timeout", "greeting: timed out"},
      {NET(GREETING, E_CLOSED), SCOPE_HOST, FATE_AGAIN, false, false, 421, {4, 4, 2}, "network", "greeting: connection closed"},
      {NET(EHLO, E_RESET), SCOPE_HOST, FATE_AGAIN, false, false, 421, {4, 4, 2}, "network", "EHLO: connection reset"},
      {NET(MAIL, E_RESET), SCOPE_CONNECTION, FATE_AGAIN, false, false, 421, {4, 4, 2}, "network", "MAIL: connection reset"},
      {NET(RCPT, E_TIMEOUT), SCOPE_HOST, FATE_AGAIN, false, false, 421, {4, 4, 2}, "timeout", "RCPT: timed out"},
      {NET(RCPT, E_CLOSED, .pipelined = true), SCOPE_CONNECTION, FATE_AGAIN, false, true, 421, {4, 4, 2}, "network", "RCPT: connection closed"},
      {NET(MAIL, E_TIMEOUT, .pipelined = true), SCOPE_CONNECTION, FATE_AGAIN, false, true, 421, {4, 4, 2}, "timeout", "MAIL: timed out"},
      {NET(DATA, E_CLOSED, .pipelined = true, .proven = true),
       SCOPE_CONNECTION,
       FATE_AGAIN,
       false,
       false,
       421,
       {4, 4, 2},
       "network",
       "DATA: connection closed"},
      {NET(MAIL, E_TIMEOUT, .pipelined = true, .proven = true), SCOPE_HOST, FATE_AGAIN, false, false, 421, {4, 4, 2}, "timeout", "MAIL: timed out"},
      {NET(CONTENT, E_RESET, .pipelined = true),
       SCOPE_CONNECTION,
       FATE_DEFERRED,
       false,
       false,
       421,
       {4, 4, 2},
       "network",
       "content: connection reset"},
      {NET(CONTENT, E_TIMEOUT), SCOPE_HOST, FATE_DEFERRED, false, false, 421, {4, 4, 2}, "timeout", "content: timed out"},
      {NET(FINAL, E_CLOSED, .pipelined = true),
       SCOPE_CONNECTION,
       FATE_DEFERRED,
       true,
       false,
       421,
       {4, 4, 2},
       "network",
       "end of DATA: connection closed"},
      {NET(FINAL, E_TIMEOUT), SCOPE_HOST, FATE_DEFERRED, true, false, 421, {4, 4, 2}, "timeout", "end of DATA: timed out"},
      {NET(FINAL, E_NO_MEMORY), SCOPE_CONNECTION, FATE_DEFERRED, true, false, 451, {4, 3, 0}, "unknown", "end of DATA: out of memory"},
      {NET(IDLE, E_CLOSED), SCOPE_CONNECTION, FATE_AGAIN, false, false, 421, {4, 4, 2}, "network", "idle: connection closed"},
  };
  for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) expect(&table[i]);
}
END_TEST

#define OTHER(kind_, at, ...)                                                                                                                        \
  { .kind = FAILURE_##kind_, .stage = SMTP_STAGE_##at, ##__VA_ARGS__ }

START_TEST(others) {
  const struct network_case table[] = {
      {OTHER(PROTOCOL, GREETING, .text = "no code"), SCOPE_HOST, FATE_AGAIN, false, false, 421, {4, 5, 0}, "protocol", "greeting: no code"},
      {OTHER(PROTOCOL, RCPT, .pipelined = true), SCOPE_CONNECTION, FATE_AGAIN, false, true, 421, {4, 5, 0}, "protocol", "RCPT: protocol error"},
      {OTHER(PROTOCOL, RCPT, .pipelined = true, .proven = true),
       SCOPE_HOST,
       FATE_AGAIN,
       false,
       false,
       421,
       {4, 5, 0},
       "protocol",
       "RCPT: protocol error"},
      {OTHER(PROTOCOL, CONTENT), SCOPE_HOST, FATE_DEFERRED, false, false, 421, {4, 5, 0}, "protocol", "content: protocol error"},
      {OTHER(PROTOCOL, FINAL, .pipelined = true), SCOPE_HOST, FATE_DEFERRED, true, false, 421, {4, 5, 0}, "protocol", "end of DATA: protocol error"},
      {OTHER(UNFIT, MAIL, .unfit = SMTP_UNFIT_SIZE),
       SCOPE_MESSAGE,
       FATE_FAILED,
       false,
       false,
       552,
       {5, 3, 4},
       "size",
       "the message is larger than the server takes"},
      {OTHER(UNFIT, MAIL, .unfit = SMTP_UNFIT_8BIT),
       SCOPE_MESSAGE,
       FATE_FAILED,
       false,
       false,
       554,
       {5, 6, 3},
       "content",
       "the message has 8-bit content, which the server does not take"},
      {OTHER(UNFIT, MAIL, .unfit = SMTP_UNFIT_UTF8),
       SCOPE_MESSAGE,
       FATE_FAILED,
       false,
       false,
       553,
       {5, 6, 7},
       "content",
       "the message needs SMTPUTF8, which the server does not offer"},
      {OTHER(UNFIT, MAIL, .unfit = SMTP_UNFIT_TLS), SCOPE_MESSAGE, FATE_FAILED, false, false, 550, {5, 7, 30}, "tls", "REQUIRETLS support required"},
      {OTHER(DNS, GREETING, .mx = MX_NULL), SCOPE_SITE, FATE_FAILED, false, false, 556, {5, 1, 10}, "bad-domain", "the domain takes no mail"},
      {OTHER(DNS, GREETING, .mx = MX_NO_DOMAIN, .text = "NXDOMAIN"), SCOPE_SITE, FATE_FAILED, false, false, 550, {5, 1, 2}, "bad-domain", "NXDOMAIN"},
      {OTHER(DNS, GREETING, .mx = MX_BAD_NAME, .text = ""), SCOPE_SITE, FATE_FAILED, false, false, 550, {5, 1, 2}, "bad-domain", "no such domain"},
      {OTHER(DNS, GREETING, .mx = MX_NO_ADDRESS), SCOPE_SITE, FATE_FAILED, false, false, 550, {5, 4, 4}, "no-mx", "no mail exchanger has an address"},
      {OTHER(DNS, GREETING, .mx = MX_SELF),
       SCOPE_SITE,
       FATE_FAILED,
       false,
       false,
       554,
       {5, 4, 6},
       "no-mx",
       "the mail exchanger is this host: a loop"},
      {OTHER(DNS, GREETING, .mx = MX_TEMPORARY, .text = "SERVFAIL"), SCOPE_SITE, FATE_DEFERRED, false, false, 451, {4, 4, 3}, "dns", "SERVFAIL"},
      {OTHER(TLS, STARTTLS, .text = "TLS: not offered"), SCOPE_HOST, FATE_AGAIN, false, false, 451, {4, 7, 5}, "tls", "TLS: not offered"},
      {OTHER(AUTH, AUTH, .text = "AUTH: not offered"), SCOPE_HOST, FATE_AGAIN, false, false, 451, {4, 7, 0}, "authentication", "AUTH: not offered"},
      {OTHER(ROUTE, GREETING, .rejected = false), SCOPE_MESSAGE, FATE_DELIVERED, false, false, 250, {2, 0, 0}, NULL, "discarded by a route"},
      {OTHER(ROUTE, GREETING, .rejected = true), SCOPE_MESSAGE, FATE_FAILED, false, false, 550, {5, 7, 1}, "policy", "rejected by a route"},
      {OTHER(INTERNAL, MAIL, .error = E_IO),
       SCOPE_CONNECTION,
       FATE_DEFERRED,
       false,
       false,
       451,
       {4, 3, 0},
       "unknown",
       "this host: input/output error"},
      {OTHER(INTERNAL, CONTENT, .error = E_NO_MEMORY),
       SCOPE_CONNECTION,
       FATE_POSTPONED,
       false,
       false,
       451,
       {4, 3, 0},
       "unknown",
       "this host: out of memory"},
      {OTHER(INTERNAL, FINAL, .error = E_NO_MEMORY),
       SCOPE_CONNECTION,
       FATE_DEFERRED,
       true,
       false,
       451,
       {4, 3, 0},
       "unknown",
       "this host: out of memory"},
  };
  for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) expect(&table[i]);
  ck_assert(decide(&(struct failure)OTHER(DNS, GREETING, .mx = MX_NULL)).verdict.hard);
  ck_assert(decide(&(struct failure)OTHER(DNS, GREETING, .mx = MX_NO_DOMAIN)).verdict.hard);
  ck_assert(!decide(&(struct failure)OTHER(DNS, GREETING, .mx = MX_SELF)).verdict.hard);
  ck_assert(!decide(&(struct failure)OTHER(ROUTE, GREETING, .rejected = true)).verdict.hard);
}
END_TEST

/* What must hold of every decision, whatever the failure. */
static void check(const struct failure *failure) {
  struct decision got = decide(failure);
  bool reply = failure->kind == FAILURE_REPLY;
  ck_quick(got.scope >= SCOPE_RECIPIENT);
  ck_quick(got.scope <= SCOPE_SITE);
  ck_quick(got.fate <= FATE_AGAIN);
  ck_quick(got.code >= 200);
  if (got.fate == FATE_INVALID) ck_quick(reply && got.code / 100 == 2 && failure->stage == SMTP_STAGE_RCPT);
  bool discarded = failure->kind == FAILURE_ROUTE && !failure->rejected;
  if (got.fate == FATE_DELIVERED) ck_quick(discarded || (reply && got.code / 100 == 2 && failure->stage == SMTP_STAGE_FINAL));
  if (got.fate == FATE_FAILED) ck_quick(got.code / 100 == 5);
  if (!reply && !discarded && got.fate != FATE_FAILED) ck_quick(got.code / 100 == 4 && got.enhanced[0] == 4);
  if (!reply && got.fate == FATE_FAILED) ck_quick(got.enhanced[0] == 5);
  if (got.verdict.hard) ck_quick(got.fate == FATE_FAILED);
  if (got.fate > FATE_DELIVERED) ck_quick(got.verdict.category != NULL && got.verdict.rule != NULL);
  /* Silence after the content is never a second copy at once, and never a bounce. */
  if (got.maybe_duplicate) ck_quick(got.fate == FATE_DEFERRED && failure->stage == SMTP_STAGE_FINAL);
  /* Nobody is told of what is postponed: so it may only be for our own lack of something. */
  if (got.fate == FATE_POSTPONED) ck_quick(got.scope == SCOPE_CONNECTION && (failure->kind == FAILURE_NETWORK || failure->kind == FAILURE_INTERNAL));
  if (failure->stage == SMTP_STAGE_FINAL &&
      (failure->kind == FAILURE_NETWORK || failure->kind == FAILURE_PROTOCOL || failure->kind == FAILURE_INTERNAL) && !failure->connecting)
    ck_quick(got.maybe_duplicate);
  if (got.without_pipelining) ck_quick(failure->pipelined && !failure->proven && got.fate == FATE_AGAIN && got.scope == SCOPE_CONNECTION);
}

START_TEST(every_failure_has_a_decision) {
  static const uint16_t enhanced[][2] = {{0, 0}, {1, 1}, {2, 2}, {5, 3}, {7, 1}, {999, 999}};
  for (int stage = SMTP_STAGE_GREETING; stage <= SMTP_STAGE_IDLE; stage++) {
    for (unsigned flags = 0; flags < 16; flags++) {
      struct failure failure = {.stage = (enum smtp_client_stage)stage,
                                .connecting = (flags & 1) != 0,
                                .pipelined = (flags & 2) != 0,
                                .proven = (flags & 4) != 0,
                                .alone = (flags & 8) != 0};
      for (int kind = FAILURE_NETWORK; kind <= FAILURE_INTERNAL; kind++) {
        failure.kind = (enum failure_kind)kind;
        failure.rejected = flags % 2 == 1;
        failure.unfit = (enum smtp_client_unfit)(SMTP_UNFIT_SIZE + flags % 4);
        for (int i = 0; i < 22; i++) {
          failure.error = E_SYNTAX - i;
          failure.mx = (enum mx_status)(MX_NULL + i % 6);
          check(&failure);
        }
      }
      failure.kind = FAILURE_REPLY;
      for (unsigned code = 200; code < 600; code++) {
        for (unsigned class = 0; class < 6; class ++) {
          struct smtp_reply reply = {.code = (uint16_t)code, .enhanced_class = (uint8_t) class, .bytes = SPAN("550 user unknown\r\n")};
          memcpy(reply.enhanced, enhanced[(code + class) % 6], sizeof reply.enhanced);
          failure.reply = &reply;
          check(&failure);
        }
      }
    }
  }
}
END_TEST

START_TEST(a_text_without_room_is_cut) {
  struct decision decision;
  for (size_t cap = 0; cap < 40; cap++) {
    struct fmt narrow = fmt_over(room, cap);
    outcome_decide(&(struct failure)NET(GREETING, E_REFUSED, .connecting = true), &decision, &narrow);
    ck_assert(!narrow.overflow);
    ck_assert_uint_eq(narrow.len, cap < 27 ? cap : 27);
  }
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_test(all, replies);
  tcase_add_test(all, no_room_for_the_only_recipient_is_no_limit_of_their_number);
  tcase_add_test(all, reply_is_reported_as_it_came);
  tcase_add_test(all, hard_only_where_it_is_clear_who_is_meant);
  tcase_add_test(all, odd_answer_to_the_content_may_mean_yes);
  tcase_add_test(all, network);
  tcase_add_test(all, others);
  tcase_add_test(all, every_failure_has_a_decision);
  tcase_add_test(all, a_text_without_room_is_cut);
  return unit_main("net/out/outcome", &all, 1);
}
