#include "bench/lib/receiver.h"

#include "bench/lib/counter.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- replies ---- */

static void reply(struct receiver *r, const char *code, const char *enhanced, const char *text) {
  uint8_t room[512];
  struct fmt line = fmt_over(room, sizeof room);
  fmt_text(&line, code);
  fmt_char(&line, ' ');
  if (r->_config->enhanced && enhanced[0] != '\0') {
    fmt_text(&line, enhanced);
    fmt_char(&line, ' ');
  }
  fmt_text(&line, text);
  fmt_text(&line, "\r\n");
  outbox_put(r->_outbox, fmt_span(&line));
}

static void reply_error(struct receiver *r, const char *code, const char *enhanced, const char *text) {
  if (!r->_refused) counter_add(&r->_stats->protocol_errors, 1);
  reply(r, code, enhanced, text);
}

/* ---- rules ---- */

static uint32_t draw(struct receiver *r) { return (uint32_t)(mix64(r->_chance++) >> 32); }

/* Counts a try, saturating, and returns how many there were before. */
static uint8_t count_try(uint8_t *counter) {
  uint8_t before = __atomic_load_n(counter, __ATOMIC_RELAXED);
  if (before < UINT8_MAX) __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
  return before;
}

static bool still_first(const struct receiver *r, const struct rule *rule, uint64_t number) {
  uint64_t key = rule->stage >= STAGE_RCPT && number != RECEIVER_FOREIGN ? number : r->_local;
  return count_try(&r->_config->tries[key % RECEIVER_TRIES]) < rule->first;
}

/* The rule to apply now, or NULL. */
static const struct rule *find_rule(struct receiver *r, enum rule_stage stage, struct span rcpt, uint64_t number) {
  const struct rules *rules = r->_config->rules;
  if (rules->count == 0) return NULL;
  struct rule_subject subject = {stage, rcpt, span_of(r->_from, r->_from_len), span_of_text(r->_host)};
  for (const struct rule *rule = NULL; (rule = rule_match(rules, rule, &subject)) != NULL;) {
    if (rule->rate != UINT32_MAX && draw(r) > rule->rate) continue;
    if (rule->first > 0 && !still_first(r, rule, number)) continue;
    return rule;
  }
  return NULL;
}

static void put_rule_reply(struct receiver *r, const struct rule *rule) {
  if (rule->code >= 500) counter_add(&r->_stats->refused, 1);
  if (rule->code >= 400 && rule->code < 500) counter_add(&r->_stats->deferred, 1);
  outbox_put(r->_outbox, span_of_text(rule->reply));
  outbox_put(r->_outbox, SPAN("\r\n"));
  r->_refused = true;
  if (rule->code == 421) r->state = RECEIVER_CUT;
}

/* True if the rule has answered, or ended the connection; false if the usual reply follows. */
static bool apply_rule(struct receiver *r, const struct rule *rule) {
  if (rule == NULL) return false;
  if (rule->delay_ns > 0) outbox_hold(r->_outbox, r->_now_ns + rule->delay_ns);
  if (rule->drip_ns > 0) outbox_drip(r->_outbox, rule->drip_ns);
  if (rule->cut) {
    counter_add(&r->_stats->cuts, 1);
    r->state = RECEIVER_CUT;
    return true;
  }
  if (rule->code == 0) return false;
  put_rule_reply(r, rule);
  return true;
}

/* For stages before a recipient is known. */
static bool ruled(struct receiver *r, enum rule_stage stage) { return apply_rule(r, find_rule(r, stage, span_of(NULL, 0), RECEIVER_FOREIGN)); }

/* ---- the envelope ---- */

static void envelope_reset(struct receiver *r) {
  r->_in_mail = false;
  r->_recipient_count = 0;
  r->_from_len = r->_rcpt_len = 0;
  r->_chunk_refused = r->_refused = false;
}

/* The path between < and > after "MAIL FROM:" or "RCPT TO:". */
static bool parse_path(struct span arguments, const char *keyword, struct span *path) {
  struct span word = span_of_text(keyword);
  if (!span_starts_nocase(arguments, word)) return false;
  arguments = span_skip(arguments, word.len);
  while (arguments.len > 0 && arguments.at[0] == ' ') arguments = span_skip(arguments, 1); /* wrong, but common */
  if (arguments.len == 0 || arguments.at[0] != '<') return false;
  ptrdiff_t end = span_find(arguments, '>');
  if (end < 0 || end > RECEIVER_ADDRESS_MAX) return false;
  *path = span_of(arguments.at + 1, (size_t)end - 1);
  return true;
}

static void on_mail(struct receiver *r, struct span arguments) {
  struct span path;
  if (!r->_greeted || r->_in_mail) {
    reply_error(r, "503", "5.5.1", r->_in_mail ? "nested MAIL" : "EHLO first");
  } else if (!parse_path(arguments, "FROM:", &path)) {
    reply_error(r, "501", "5.5.4", "syntax: MAIL FROM:<address>");
  } else {
    memcpy(r->_from, path.at, path.len);
    r->_from_len = (uint32_t)path.len;
    r->_refused = false;
    if (ruled(r, STAGE_MAIL)) {
      r->_from_len = 0;
      return;
    }
    r->_in_mail = true;
    reply(r, "250", "2.1.0", "sender ok");
  }
}

static void raise_max(uint32_t *max, uint32_t value) {
  uint32_t seen = __atomic_load_n(max, __ATOMIC_RELAXED);
  while (value > seen && !__atomic_compare_exchange_n(max, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
}

/* A connection counts for the domain of its first recipient. */
static void count_domain(struct receiver *r, uint64_t domain) {
  if (r->_domain != RECEIVER_FOREIGN || domain >= r->_config->domain_count) return;
  r->_domain = domain;
  uint32_t now = __atomic_add_fetch(&r->_config->domain_connections[domain], 1, __ATOMIC_RELAXED);
  raise_max(&r->_config->domain_connections_max[domain], now);
}

static struct receiver_recipient identify(const struct receiver *r, struct span path) {
  struct receiver_recipient found = {RECEIVER_FOREIGN, RECEIVER_FOREIGN};
  struct span domain;
  if (!recipient_parse(path, &found.number, &domain) || found.number >= LEDGER_NUMBERS)
    return (struct receiver_recipient){RECEIVER_FOREIGN, RECEIVER_FOREIGN};
  if (!domains_index(&r->_config->zone->domains, domain, &found.domain)) found.domain = RECEIVER_FOREIGN;
  return found;
}

static bool add_recipient(struct receiver *r, struct receiver_recipient recipient) {
  if (r->_recipient_count == r->_recipient_cap) {
    uint32_t cap = r->_recipient_cap > 0 ? 2 * r->_recipient_cap : 4;
    struct receiver_recipient *grown = realloc(r->_recipients, cap * sizeof *grown);
    if (grown == NULL) return false;
    r->_recipients = grown;
    r->_recipient_cap = cap;
  }
  r->_recipients[r->_recipient_count++] = recipient;
  return true;
}

static void on_rcpt(struct receiver *r, struct span arguments) {
  struct span path;
  if (!r->_in_mail) {
    reply_error(r, "503", "5.5.1", "MAIL first");
    return;
  }
  if (!parse_path(arguments, "TO:", &path) || path.len == 0) {
    reply_error(r, "501", "5.5.4", "syntax: RCPT TO:<address>");
    return;
  }
  struct receiver_recipient recipient = identify(r, path);
  count_domain(r, recipient.domain);
  const struct rule *rule = find_rule(r, STAGE_RCPT, path, recipient.number);
  if (apply_rule(r, rule)) {
    if (rule->code >= 500 && recipient.number != RECEIVER_FOREIGN) ledger_refuse(r->_config->ledger, recipient.number);
    return;
  }
  if (r->_recipient_count >= r->_config->recipients_max || !add_recipient(r, recipient)) {
    counter_add(&r->_stats->deferred, 1);
    reply(r, "452", "4.5.3", "too many recipients");
    return;
  }
  if (r->_rcpt_len == 0) {
    memcpy(r->_rcpt, path.at, path.len);
    r->_rcpt_len = (uint32_t)path.len;
  }
  reply(r, "250", "2.1.5", "recipient ok");
}

/* ---- the message ---- */

static void count_recipient(struct receiver *r, struct receiver_recipient recipient, bool excuse) {
  const struct content_stamp *stamp = &r->_content.stamp;
  if (recipient.number == RECEIVER_FOREIGN) return;
  if (recipient.number / stamp->recipients != stamp->seq) {
    counter_add(&r->_stats->misdelivered, 1);
    return;
  }
  if (r->_config->check_address && recipient.domain != RECEIVER_FOREIGN && !zone_is_address_of(r->_config->zone, recipient.domain, r->_local)) {
    counter_add(&r->_stats->misrouted, 1);
  }
  bool excused = excuse ? ledger_set(r->_run, LEDGER_EXCUSED, recipient.number) : ledger_has(r->_run, LEDGER_EXCUSED, recipient.number);
  if (!ledger_set(r->_run, LEDGER_ARRIVED, recipient.number)) {
    counter_add(&r->_stats->arrived, 1);
  } else if (excused) {
    counter_add(&r->_stats->excused_duplicates, 1);
  } else {
    counter_add(&r->_stats->duplicated, 1);
  }
}

static bool is_timed(const struct receiver *r) { return r->_now_ns >= counter_read(&r->_config->timed_from_ns); }

static void count_stamped(struct receiver *r, bool excuse) {
  const struct content_stamp *stamp = &r->_content.stamp;
  uint64_t expected;
  if (__builtin_mul_overflow(stamp->messages, stamp->recipients, &expected)) expected = LEDGER_NUMBERS;
  if (r->_run == NULL || r->_run->run != stamp->run) r->_run = ledger_find(r->_config->ledger, stamp->run, expected);
  if (r->_run == NULL) {
    counter_add(&r->_stats->foreign, 1);
    return;
  }
  if (is_timed(r) && r->_now_ns > stamp->sent_ns) histogram_record(&r->_stats->latency, r->_now_ns - stamp->sent_ns);
  for (uint32_t i = 0; i < r->_recipient_count; i++) count_recipient(r, r->_recipients[i], excuse);
}

static void count_accepted(struct receiver *r, bool excuse) {
  struct receiver_stats *stats = r->_stats;
  if (is_timed(r)) {
    if (stats->first_ns == 0) counter_write(&stats->first_ns, r->_now_ns);
    counter_write(&stats->last_ns, r->_now_ns);
    counter_add(&stats->timed, 1);
  }
  counter_add(&stats->transactions, 1);
  if (r->_secured) counter_add(&stats->tls_transactions, 1);
  counter_add(&stats->recipients, r->_recipient_count);
  counter_raise(&stats->recipients_per_transaction_max, r->_recipient_count);
  counter_add(&stats->bytes, r->_content.size_bytes);
  if (r->_from_len == 0) counter_add(&stats->bounces, 1);
  enum content_verdict verdict = content_reader_end(&r->_content);
  if (verdict == CONTENT_CORRUPT && r->_config->verify) counter_add(&stats->corrupt, 1);
  if (verdict == CONTENT_FOREIGN) {
    counter_add(&stats->foreign, 1);
  } else {
    count_stamped(r, excuse);
  }
}

static void refuse_all(struct receiver *r) {
  for (uint32_t i = 0; i < r->_recipient_count; i++) {
    if (r->_recipients[i].number != RECEIVER_FOREIGN) ledger_refuse(r->_config->ledger, r->_recipients[i].number);
  }
}

static uint64_t first_number(const struct receiver *r) { return r->_recipient_count > 0 ? r->_recipients[0].number : RECEIVER_FOREIGN; }

static void finish_message(struct receiver *r) {
  const struct rule *rule = find_rule(r, STAGE_FINAL, span_of(r->_rcpt, r->_rcpt_len), first_number(r));
  if (r->_content.size_bytes > r->_config->size_max) {
    counter_add(&r->_stats->refused, 1);
    refuse_all(r);
    reply(r, "552", "5.3.4", "message too big");
  } else if (apply_rule(r, rule)) {
    if (rule->code >= 500) refuse_all(r);
  } else {
    bool cut = rule != NULL && rule->cut_after_accept;
    count_accepted(r, cut);
    if (cut) {
      counter_add(&r->_stats->cuts, 1);
      r->state = RECEIVER_CUT;
    } else {
      reply(r, "250", "2.0.0", "message taken");
    }
  }
  envelope_reset(r);
}

static void on_data(struct receiver *r, struct span arguments) {
  (void)arguments;
  if (r->_recipient_count == 0) {
    reply_error(r, r->_in_mail ? "554" : "503", "5.5.1", "no valid recipients");
    return;
  }
  const struct rule *rule = find_rule(r, STAGE_DATA, span_of(r->_rcpt, r->_rcpt_len), first_number(r));
  if (apply_rule(r, rule)) {
    if (rule->code >= 500) refuse_all(r);
    envelope_reset(r);
    return;
  }
  reply(r, "354", "", "end with CRLF.CRLF");
  r->state = RECEIVER_DATA;
  r->_data_state = 0;
  content_reader_begin(&r->_content, r->_config->block);
}

/* RFC 3030: the octets follow whatever the reply will be, so they are read in any case. */
static void on_bdat(struct receiver *r, struct span arguments) {
  ptrdiff_t space = span_find(arguments, ' ');
  struct span size = space < 0 ? arguments : span_first(arguments, (size_t)space);
  struct span last = space < 0 ? span_of(NULL, 0) : span_skip(arguments, (size_t)space + 1);
  if (!r->_config->chunking || !span_to_u64(size, &r->_chunk_left) || (last.len > 0 && !span_equal_nocase(last, SPAN("LAST")))) {
    reply_error(r, "501", "5.5.4", "syntax: BDAT size [LAST]");
    r->state = RECEIVER_CUT; /* where the next command begins is unknown */
    return;
  }
  bool first = r->state == RECEIVER_COMMAND && r->_content._block == NULL;
  if (first) content_reader_begin(&r->_content, r->_config->block);
  r->_chunk_last = last.len > 0;
  r->_chunk_refused = r->_recipient_count == 0;
  r->state = RECEIVER_CHUNK;
}

static void finish_chunk(struct receiver *r) {
  r->state = RECEIVER_COMMAND;
  if (r->_chunk_refused) {
    reply_error(r, "503", "5.5.1", "no valid recipients");
    r->_content._block = NULL;
  } else if (r->_chunk_last) {
    counter_add(&r->_stats->chunked, 1);
    finish_message(r);
    r->_content._block = NULL;
  } else {
    reply(r, "250", "2.0.0", "chunk taken");
  }
}

static size_t feed_chunk(struct receiver *r, struct span bytes) {
  struct span mine = span_first(bytes, r->_chunk_left < bytes.len ? (size_t)r->_chunk_left : bytes.len);
  if (!r->_chunk_refused) content_reader_feed(&r->_content, mine);
  r->_chunk_left -= mine.len;
  if (r->_chunk_left == 0) finish_chunk(r);
  return mine.len;
}

/* The end of content under DATA (RFC 5321 4.5.2). What was read so far ends... */
enum data_state {
  AT_LINE_START, /* in CRLF, or nothing was read */
  IN_LINE,
  AFTER_CR,
  AFTER_DOT,    /* CRLF . */
  AFTER_DOT_CR, /* CRLF . CR */
};

/* Within lines: everything up to a dot at the beginning of one, which is left. The texts of our own generator have no dots, so this is one
 * memchr and one comparison for each piece. */
static size_t feed_lines(struct receiver *r, struct span bytes) {
  size_t end = bytes.len;
  for (size_t from = 0; from < bytes.len;) {
    const uint8_t *dot = memchr(bytes.at + from, '.', bytes.len - from);
    if (dot == NULL) break;
    size_t at = (size_t)(dot - bytes.at);
    bool line_start = at >= 2 ? dot[-2] == '\r' && dot[-1] == '\n' : at == 1 ? r->_data_state == AFTER_CR && dot[-1] == '\n' : false;
    if (line_start) {
      end = at;
      break;
    }
    from = at + 1;
  }
  content_reader_feed(&r->_content, span_first(bytes, end));
  bool after_cr = end >= 2 ? bytes.at[end - 2] == '\r' : r->_data_state == AFTER_CR;
  uint8_t last = bytes.at[end - 1];
  r->_data_state = last == '\n' && after_cr ? AT_LINE_START : last == '\r' ? AFTER_CR : IN_LINE;
  return end;
}

static size_t feed_data(struct receiver *r, struct span bytes) {
  size_t at = 0;
  while (at < bytes.len) {
    uint8_t c = bytes.at[at];
    switch ((enum data_state)r->_data_state) {
    case AT_LINE_START:
      at += c == '.';
      r->_data_state = c == '.' ? AFTER_DOT : IN_LINE;
      break;
    case IN_LINE:
    case AFTER_CR: at += feed_lines(r, span_skip(bytes, at)); break;
    case AFTER_DOT: /* anything but CR: the dot was a stuffed one and goes */
      at += c == '\r';
      r->_data_state = c == '\r' ? AFTER_DOT_CR : IN_LINE;
      break;
    case AFTER_DOT_CR:
      if (c == '\n') {
        r->state = RECEIVER_COMMAND;
        finish_message(r);
        r->_content._block = NULL;
        return at + 1;
      }
      content_reader_feed(&r->_content, SPAN("\r"));
      r->_data_state = AFTER_CR;
      break;
    }
  }
  return at;
}

/* ---- commands ---- */

static void on_helo(struct receiver *r, struct span arguments) {
  (void)arguments;
  if (ruled(r, STAGE_HELO)) return;
  envelope_reset(r);
  r->_greeted = true;
  reply(r, "250", "", r->_config->hostname);
}

static void on_ehlo(struct receiver *r, struct span arguments) {
  (void)arguments;
  if (ruled(r, STAGE_HELO)) return;
  envelope_reset(r);
  r->_greeted = true;
  const struct receiver_config *config = r->_config;
  char size[40];
  snprintf(size, sizeof size, "250-SIZE %llu\r\n", (unsigned long long)config->size_max);
  const struct {
    bool offered;
    const char *line;
  } extensions[] = {{config->pipelining, "250-PIPELINING\r\n"},
                    {config->size, size},
                    {config->eight_bit, "250-8BITMIME\r\n"},
                    {config->smtputf8, "250-SMTPUTF8\r\n"},
                    {config->chunking, "250-CHUNKING\r\n"},
                    {config->dsn, "250-DSN\r\n"},
                    {config->enhanced, "250-ENHANCEDSTATUSCODES\r\n"},
                    {config->starttls && !r->_secured, "250-STARTTLS\r\n"}};
  outbox_put(r->_outbox, SPAN("250-"));
  outbox_put(r->_outbox, span_of_text(config->hostname));
  outbox_put(r->_outbox, SPAN("\r\n"));
  for (unsigned i = 0; i < sizeof extensions / sizeof *extensions; i++) {
    if (extensions[i].offered) outbox_put(r->_outbox, span_of_text(extensions[i].line));
  }
  outbox_put(r->_outbox, SPAN("250 HELP\r\n"));
}

static void on_rset(struct receiver *r, struct span arguments) {
  (void)arguments;
  envelope_reset(r);
  r->_content._block = NULL;
  reply(r, "250", "2.0.0", "ok");
}

static void on_noop(struct receiver *r, struct span arguments) {
  (void)arguments;
  reply(r, "250", "2.0.0", "ok");
}

static void on_vrfy(struct receiver *r, struct span arguments) {
  (void)arguments;
  reply(r, "252", "2.1.5", "try RCPT");
}

static void on_help(struct receiver *r, struct span arguments) {
  (void)arguments;
  reply(r, "214", "2.0.0", "a sink for tests: all mail is counted and thrown away");
}

static void on_quit(struct receiver *r, struct span arguments) {
  (void)arguments;
  reply(r, "221", "2.0.0", "bye");
  r->state = RECEIVER_CLOSING;
}

static const struct command {
  char verb[5];
  void (*run)(struct receiver *r, struct span arguments);
} commands[] = {{"MAIL", on_mail}, {"RCPT", on_rcpt}, {"DATA", on_data}, {"BDAT", on_bdat}, {"RSET", on_rset}, {"NOOP", on_noop},
                {"QUIT", on_quit}, {"EHLO", on_ehlo}, {"HELO", on_helo}, {"VRFY", on_vrfy}, {"HELP", on_help}};

static void on_starttls(struct receiver *r) {
  if (r->_secured || !r->_config->starttls) {
    reply_error(r, "503", "5.5.1", "no TLS now");
    return;
  }
  reply(r, "220", "2.0.0", "go on in TLS");
  r->state = RECEIVER_SECURING;
}

static void run_command(struct receiver *r, struct span line) {
  if (span_equal_nocase(line, SPAN("STARTTLS"))) {
    on_starttls(r);
    return;
  }
  if (line.len >= 4 && (line.len == 4 || line.at[4] == ' ')) {
    struct span verb = span_first(line, 4);
    for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++) {
      if (!span_equal_nocase(verb, span_of(commands[i].verb, 4))) continue;
      commands[i].run(r, span_skip(line, line.len == 4 ? 4 : 5));
      return;
    }
  }
  reply_error(r, "500", "5.5.2", "command unknown");
}

static struct span without_end(struct span line) {
  while (line.len > 0 && (line.at[line.len - 1] == '\n' || line.at[line.len - 1] == '\r' || line.at[line.len - 1] == ' ')) line.len--;
  return line;
}

/* One line, or the part of one that has arrived. */
static size_t feed_line(struct receiver *r, struct span bytes) {
  ptrdiff_t end = span_find(bytes, '\n');
  size_t len = end < 0 ? bytes.len : (size_t)end + 1;
  if (len > sizeof r->_line - r->_line_len) {
    reply_error(r, "500", "5.5.2", "line too long");
    r->state = RECEIVER_CUT;
    return bytes.len;
  }
  if (end >= 0 && r->_line_len == 0) {
    run_command(r, without_end(span_first(bytes, len)));
    return len;
  }
  memcpy(r->_line + r->_line_len, bytes.at, len);
  r->_line_len += (uint32_t)len;
  if (end >= 0) {
    struct span line = without_end(span_of(r->_line, r->_line_len));
    r->_line_len = 0;
    run_command(r, line);
  }
  return len;
}

static void count_pipelined(struct receiver *r) {
  counter_add(&r->_stats->pipelined, 1);
  if (!r->_config->pipelining) counter_add(&r->_stats->pipelining_violations, 1);
  if (!r->_pipelined) counter_add(&r->_stats->pipelined_connections, 1);
  r->_pipelined = true;
}

void receiver_feed(struct receiver *r, struct span bytes, uint64_t now_ns) {
  r->_now_ns = now_ns;
  bool counted = false;
  while (bytes.len > 0) {
    size_t used = 0;
    switch (r->state) {
    case RECEIVER_COMMAND: used = feed_line(r, bytes); break;
    case RECEIVER_DATA: used = feed_data(r, bytes); break;
    case RECEIVER_CHUNK: used = feed_chunk(r, bytes); break;
    case RECEIVER_SECURING: /* in the clear behind STARTTLS: from whom? */
      counter_add(&r->_stats->protocol_errors, 1);
      r->state = RECEIVER_CUT;
      return;
    case RECEIVER_CLOSING:
    case RECEIVER_CUT:
    case RECEIVER_NONE: return;
    }
    bytes = span_skip(bytes, used);
    if (r->state == RECEIVER_CHUNK && r->_chunk_left == 0) finish_chunk(r);
    /* Octets behind BDAT belong to the command; any other bytes behind a command that awaits its reply are pipelined. */
    if (!counted && bytes.len > 0 && r->state == RECEIVER_COMMAND) {
      count_pipelined(r);
      counted = true;
    }
  }
}

void receiver_begin(struct receiver *r, const struct receiver_config *config, struct receiver_stats *stats, struct outbox *outbox, uint32_t local,
                    uint64_t chance, uint64_t now_ns) {
  r->_config = config;
  r->_stats = stats;
  r->_outbox = outbox;
  r->_local = local;
  r->_chance = chance;
  r->_now_ns = now_ns;
  r->state = RECEIVER_COMMAND;
  r->_greeted = r->_pipelined = r->_secured = false;
  r->_domain = RECEIVER_FOREIGN;
  r->_run = NULL;
  r->_recipients = NULL;
  r->_recipient_cap = 0;
  r->_line_len = 0;
  r->_content._block = NULL;
  envelope_reset(r);
  snprintf(r->_host, sizeof r->_host, "%u.%u.%u.%u", local >> 24, local >> 16 & 255, local >> 8 & 255, local & 255);
  counter_add(&stats->connections, 1);
  if (ruled(r, STAGE_CONNECT)) {
    r->state = RECEIVER_CUT;
    return;
  }
  outbox_put(outbox, SPAN("220 "));
  outbox_put(outbox, span_of_text(config->hostname));
  outbox_put(outbox, SPAN(" ESMTP\r\n"));
}

void receiver_secured(struct receiver *r) {
  r->_secured = true;
  if (r->state != RECEIVER_SECURING) return; /* from the first byte on: the greeting waits */
  r->state = RECEIVER_COMMAND;
  r->_greeted = false;
  envelope_reset(r);
}

void receiver_end(struct receiver *r) {
  if (r->_domain != RECEIVER_FOREIGN) __atomic_fetch_sub(&r->_config->domain_connections[r->_domain], 1, __ATOMIC_RELAXED);
  free(r->_recipients);
  r->_recipients = NULL;
}
