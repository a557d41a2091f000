#include "bench/lib/sender.h"

#include "bench/lib/counter.h"
#include "core/base/error.h"

#include <stdlib.h>

/* Whose reply is next, of the first transaction under way. */
enum { EXPECT_RESET = 1, EXPECT_MAIL, EXPECT_RCPT, EXPECT_DATA, EXPECT_FINAL };

enum { HEADER_ROOM = 512 + 3 * RECIPIENT_TEXT_MAX };

/* ---- what is sent ---- */

/* Room is made for what one reply can set off. A peer that answers what was not asked runs into the end of it, which breaks the session. */
static void add_slice(struct sender *s, const uint8_t *at, size_t len) {
  if (s->slice_count == s->_slice_cap) {
    s->_text.overflow = true;
    return;
  }
  s->slices[s->slice_count++] = (struct iovec){(void *)(uintptr_t)at, len};
}

/* A slice for the text that was added since the last one. */
static void slice_text(struct sender *s) {
  if (s->_text_done == s->_text.len) return;
  add_slice(s, s->_text.at + s->_text_done, s->_text.len - s->_text_done);
  s->_text_done = s->_text.len;
}

static void put_recipient(const struct sender *s, uint64_t seq, uint32_t k, struct fmt *out) {
  const struct sender_plan *plan = s->_plan;
  uint64_t number = seq * plan->recipients + k;
  fmt_text(out, "user-");
  fmt_u64(out, number);
  fmt_char(out, '@');
  domains_format(&plan->domains, domain_pick(plan->order, plan->spread ? number : seq, plan->domain_count, plan->run), out);
}

static void put_mail(struct sender *s) {
  fmt_text(&s->_text, "MAIL FROM:<");
  fmt_put(&s->_text, s->_plan->from);
  fmt_text(&s->_text, ">\r\n");
}

static void put_rcpt(struct sender *s, const struct job *job, uint32_t k) {
  fmt_text(&s->_text, "RCPT TO:<");
  put_recipient(s, job->seq, k, &s->_text);
  fmt_text(&s->_text, ">\r\n");
}

static void put_body(struct sender *s, const struct content_stamp *stamp) {
  slice_text(s);
  for (uint64_t at = 0; at < stamp->body_size;) {
    struct span piece = content_body(s->_plan->block, stamp->seq, stamp->body_size, at);
    add_slice(s, piece.at, piece.len);
    at += piece.len;
  }
}

/* Header and body; under BDAT with the command before them, under DATA with the end behind them. */
static void put_content(struct sender *s, struct transaction *t) {
  const struct sender_plan *plan = s->_plan;
  uint8_t header_room[HEADER_ROOM], to_room[RECIPIENT_TEXT_MAX];
  struct fmt header = fmt_over(header_room, sizeof header_room), to = fmt_over(to_room, sizeof to_room);
  struct content_stamp stamp = {
      .run = plan->run, .seq = t->job.seq, .sent_ns = t->started_ns, .messages = plan->messages, .recipients = plan->recipients};
  put_recipient(s, t->job.seq, t->job.begin, &to);
  must(content_header(&stamp, plan->size, plan->from, fmt_span(&to), plan->date, &header));
  if (s->_chunking) {
    fmt_text(&s->_text, "BDAT ");
    fmt_u64(&s->_text, header.len + stamp.body_size);
    fmt_text(&s->_text, " LAST\r\n");
  }
  fmt_put(&s->_text, fmt_span(&header));
  put_body(s, &stamp);
  if (!s->_chunking) fmt_text(&s->_text, ".\r\n"); /* the content ends in CRLF */
  t->content_sent = true;
}

static void put_envelope(struct sender *s, struct transaction *t) {
  put_mail(s);
  for (uint32_t k = t->job.begin; k < t->job.end; k++) put_rcpt(s, &t->job, k);
  if (s->_chunking) {
    put_content(s, t);
  } else {
    fmt_text(&s->_text, "DATA\r\n");
  }
}

/* ---- how recipients end ---- */

static void count_code(struct sender *s, unsigned code) {
  if (code < SENDER_CODES) counter_add(&s->_stats->codes[code], 1);
}

/* Recipients begin to end - 1 were refused with this code. */
static void refuse_range(struct sender *s, const struct job *job, uint32_t begin, uint32_t end, unsigned code) {
  if (code >= 500) {
    counter_add(&s->_stats->refused_recipients, end - begin);
    return;
  }
  counter_add(&s->_stats->deferred_recipients, end - begin);
  struct job rest = {job->seq, begin, end, 0};
  s->_host.again(s->_host.context, &rest);
}

/* All that RCPT took. Neighbours go back as one job. */
static void refuse_taken(struct sender *s, const struct transaction *t, unsigned code) {
  for (uint32_t k = t->job.begin; k < t->job.end;) {
    uint32_t begin = k;
    while (k < t->job.end && t->taken[k]) k++;
    if (k > begin) refuse_range(s, &t->job, begin, k, code);
    while (k < t->job.end && !t->taken[k]) k++;
  }
}

static void accept_taken(struct sender *s, const struct transaction *t, uint64_t now_ns) {
  counter_add(&s->_stats->accepted, 1);
  counter_add(&s->_stats->accepted_recipients, t->accepted);
  counter_write(&s->_stats->last_ns, now_ns);
  if (t->started_ns >= s->_plan->timed_from_ns) histogram_record(&s->_stats->latency, now_ns > t->started_ns ? now_ns - t->started_ns : 0);
}

/* The session will not go on: what is under way is tried again by another one. */
static void abandon(struct sender *s, bool answered) {
  for (uint32_t i = 0; i < s->_count; i++) {
    struct transaction *t = &s->_under_way[i];
    bool envelope_open = i > 0 || s->_expected <= EXPECT_RCPT;
    if (!answered && t->content_sent) counter_add(&s->_stats->maybe_duplicated, 1);
    if (envelope_open && t->code == 0) { /* those without a reply yet were not taken, but are not refused either */
      for (uint32_t k = t->job.begin + t->awaited; k < t->job.end; k++) t->taken[k] = 1;
    }
    refuse_taken(s, t, 450);
    s->_host.done(s->_host.context);
  }
  s->_count = 0;
  s->state = SENDER_OVER;
}

/* ---- the course of a transaction ---- */

static bool start_transaction(struct sender *s, uint64_t now_ns) {
  struct transaction *t = &s->_under_way[s->_count];
  if (!s->_host.take(s->_host.context, &t->job)) return false;
  t->started_ns = t->job.due_ns > 0 ? t->job.due_ns : now_ns;
  t->awaited = t->accepted = t->code = 0;
  t->mail_accepted = t->content_sent = false;
  memset(t->taken + t->job.begin, 0, t->job.end - t->job.begin);
  if (s->_count == 0) s->_expected = s->_reset_needed ? EXPECT_RESET : EXPECT_MAIL;
  s->_count++;
  s->_messages++;
  if (s->_reset_needed) fmt_text(&s->_text, "RSET\r\n");
  if (s->_way != SENDER_WAIT) {
    put_envelope(s, t);
  } else if (!s->_reset_needed) {
    put_mail(s);
  }
  s->_reset_needed = false;
  return true;
}

static bool session_is_full(const struct sender *s) { return s->_plan->messages_per_session > 0 && s->_messages >= s->_plan->messages_per_session; }

static void end_transaction(struct sender *s, uint64_t now_ns) {
  s->_host.done(s->_host.context);
  struct transaction ended = s->_under_way[0];
  s->_under_way[0] = s->_under_way[1];
  s->_under_way[1] = ended; /* keeps its memory */
  s->_count--;
  s->_expected = EXPECT_MAIL;
  if (s->_count > 0) return;
  s->state = SENDER_IDLE;
  if (session_is_full(s)) {
    sender_quit(s);
  } else {
    sender_work(s, now_ns);
  }
}

static void on_reset(struct sender *s) {
  s->_expected = EXPECT_MAIL;
  if (s->_way == SENDER_WAIT) put_mail(s);
}

static void on_mail(struct sender *s, struct transaction *t, unsigned code, uint64_t now_ns) {
  t->mail_accepted = code < 300;
  s->_expected = EXPECT_RCPT;
  if (t->mail_accepted) {
    if (s->_way == SENDER_WAIT) put_rcpt(s, &t->job, t->job.begin);
    return;
  }
  count_code(s, code);
  t->code = code;
  refuse_range(s, &t->job, t->job.begin, t->job.end, code);
  if (s->_way == SENDER_WAIT) end_transaction(s, now_ns);
}

/* All RCPT have their replies. */
static void after_recipients(struct sender *s, struct transaction *t, uint64_t now_ns) {
  s->_expected = s->_chunking ? EXPECT_FINAL : EXPECT_DATA;
  if (s->_way != SENDER_WAIT) return;
  if (t->accepted == 0) {
    s->_reset_needed = true;
    end_transaction(s, now_ns);
  } else if (s->_chunking) {
    put_content(s, t);
  } else {
    fmt_text(&s->_text, "DATA\r\n");
  }
}

static void on_rcpt(struct sender *s, struct transaction *t, unsigned code, uint64_t now_ns) {
  uint32_t k = t->job.begin + t->awaited++;
  if (code < 300) {
    t->taken[k] = 1;
    t->accepted++;
  } else if (t->mail_accepted) {
    count_code(s, code);
    refuse_range(s, &t->job, k, k + 1, code);
  }
  if (k + 1 == t->job.end) {
    after_recipients(s, t, now_ns);
  } else if (s->_way == SENDER_WAIT) {
    put_rcpt(s, &t->job, k + 1);
  }
}

static void on_data(struct sender *s, struct transaction *t, unsigned code, uint64_t now_ns) {
  if (code != 354) {
    if (t->accepted > 0) {
      count_code(s, code);
      refuse_taken(s, t, code);
    }
    s->_reset_needed = t->mail_accepted;
    end_transaction(s, now_ns);
    return;
  }
  s->_expected = EXPECT_FINAL;
  if (t->accepted == 0) {
    fmt_text(&s->_text, ".\r\n"); /* RFC 2920 3.1: DATA was taken though no recipient was: send an empty message */
    return;
  }
  put_content(s, t);
  if (s->_way == SENDER_MESSAGES && !session_is_full(s)) start_transaction(s, now_ns);
}

static void on_final(struct sender *s, struct transaction *t, unsigned code, uint64_t now_ns) {
  if (t->accepted > 0) {
    count_code(s, code);
    if (code < 300) {
      accept_taken(s, t, now_ns);
    } else {
      refuse_taken(s, t, code);
    }
  }
  /* After a failed BDAT the state of the transaction is not known: RFC 3030 2. */
  if (s->_chunking && code >= 400 && t->mail_accepted) s->_reset_needed = true;
  end_transaction(s, now_ns);
}

static void on_busy_reply(struct sender *s, unsigned code, uint64_t now_ns) {
  struct transaction *t = &s->_under_way[0];
  if (code == 421) {
    count_code(s, code);
    abandon(s, true);
    return;
  }
  switch (s->_expected) {
  case EXPECT_RESET: on_reset(s); break;
  case EXPECT_MAIL: on_mail(s, t, code, now_ns); break;
  case EXPECT_RCPT: on_rcpt(s, t, code, now_ns); break;
  case EXPECT_DATA: on_data(s, t, code, now_ns); break;
  case EXPECT_FINAL: on_final(s, t, code, now_ns); break;
  }
}

/* ---- the session ---- */

static void put_hello(struct sender *s) {
  s->_offers_pipelining = s->_offers_chunking = s->_offers_starttls = false;
  fmt_text(&s->_text, "EHLO ");
  fmt_put(&s->_text, s->_plan->hostname);
  fmt_text(&s->_text, "\r\n");
  s->state = SENDER_HELLO;
}

static void on_greeting(struct sender *s, unsigned code) {
  if (code != 220) {
    count_code(s, code);
    s->state = SENDER_OVER;
    return;
  }
  put_hello(s);
}

/* Without it nothing is sent: figures would not be what they are taken for. */
static void ask_for_tls(struct sender *s) {
  if (s->_offers_starttls) {
    fmt_text(&s->_text, "STARTTLS\r\n");
    s->state = SENDER_STARTTLS;
    return;
  }
  counter_add(&s->_stats->without_starttls, 1);
  s->state = SENDER_OVER;
}

static void on_starttls(struct sender *s, unsigned code) {
  s->state = code == 220 ? SENDER_SECURING : SENDER_OVER;
  if (code == 220) return;
  count_code(s, code);
  counter_add(&s->_stats->without_starttls, 1);
}

static void on_hello(struct sender *s, unsigned code, uint64_t now_ns) {
  if (code != 250) {
    count_code(s, code);
    s->state = SENDER_OVER;
    return;
  }
  const struct sender_plan *plan = s->_plan;
  if (plan->starttls && !s->_secured) {
    ask_for_tls(s);
    return;
  }
  bool pipelining = plan->way != SENDER_WAIT || plan->chunking;
  s->_way = s->_offers_pipelining ? plan->way : SENDER_WAIT;
  s->_chunking = plan->chunking && s->_offers_chunking;
  counter_add(&s->_stats->sessions, 1);
  if (pipelining && !s->_offers_pipelining) counter_add(&s->_stats->without_pipelining, 1);
  if (plan->chunking && !s->_offers_chunking) counter_add(&s->_stats->without_chunking, 1);
  s->state = SENDER_IDLE;
  sender_work(s, now_ns);
}

static void on_reply(struct sender *s, unsigned code, uint64_t now_ns) {
  switch (s->state) {
  case SENDER_GREETING: on_greeting(s, code); break;
  case SENDER_HELLO: on_hello(s, code, now_ns); break;
  case SENDER_STARTTLS: on_starttls(s, code); break;
  case SENDER_BUSY: on_busy_reply(s, code, now_ns); break;
  case SENDER_IDLE: /* only 421 is to be expected here */
  case SENDER_QUITTING: s->state = SENDER_OVER; break;
  case SENDER_OVER:
  case SENDER_SECURING:
  case SENDER_NONE: break;
  }
}

static void note_extension(struct sender *s, struct span keyword) {
  if (span_equal_nocase(keyword, SPAN("PIPELINING"))) s->_offers_pipelining = true;
  if (span_equal_nocase(keyword, SPAN("CHUNKING"))) s->_offers_chunking = true;
  if (span_equal_nocase(keyword, SPAN("STARTTLS"))) s->_offers_starttls = true;
}

/* One line without its end: "250-text", "250 text", "250". False if it is no reply. */
static bool on_line(struct sender *s, struct span line, uint64_t now_ns) {
  uint64_t code;
  if (line.len < 3 || !span_to_u64(span_first(line, 3), &code) || code < 200 || code > 599) return false;
  if (s->state == SENDER_HELLO && line.len > 4) note_extension(s, span_skip(line, 4));
  if (line.len > 3 && line.at[3] == '-') return true;
  on_reply(s, (unsigned)code, now_ns);
  return true;
}

static struct span without_cr(struct span line) { return line.len > 0 && line.at[line.len - 1] == '\r' ? span_first(line, line.len - 1) : line; }

void sender_feed(struct sender *s, struct span bytes, uint64_t now_ns) {
  while (bytes.len > 0 && s->state != SENDER_OVER) {
    ptrdiff_t end = span_find(bytes, '\n');
    size_t len = end < 0 ? bytes.len : (size_t)end;
    struct span line = span_first(bytes, len);
    bool whole = end >= 0 && s->_line_len == 0;
    if (!whole) {
      bool fits = len <= sizeof s->_line - s->_line_len;
      if (fits) memcpy(s->_line + s->_line_len, bytes.at, len);
      if (fits) s->_line_len += (uint32_t)len;
      if (!fits) sender_broken(s);
      line = span_of(s->_line, s->_line_len);
    }
    bytes = span_skip(bytes, end < 0 ? len : len + 1);
    if (end < 0 || s->state == SENDER_OVER) break;
    s->_line_len = 0;
    if (!on_line(s, without_cr(line), now_ns)) sender_broken(s);
    slice_text(s);
    if (s->_text.overflow) sender_broken(s);
    if (s->state == SENDER_SECURING && bytes.len > 0) sender_broken(s); /* in the clear behind the reply: from whom? */
  }
}

void sender_secured(struct sender *s) {
  if (s->state != SENDER_SECURING) return;
  s->_secured = true;
  put_hello(s);
  slice_text(s);
}

void sender_work(struct sender *s, uint64_t now_ns) {
  if (s->state != SENDER_IDLE || !start_transaction(s, now_ns)) return;
  s->state = SENDER_BUSY;
  slice_text(s);
}

void sender_quit(struct sender *s) {
  if (s->state != SENDER_IDLE) return;
  fmt_text(&s->_text, "QUIT\r\n");
  s->state = SENDER_QUITTING;
  slice_text(s);
}

void sender_sent(struct sender *s) {
  s->slice_count = 0;
  s->_text.len = s->_text_done = 0;
  s->_text.overflow = false;
}

void sender_begin(struct sender *s) {
  sender_sent(s);
  s->state = SENDER_GREETING;
  s->_reset_needed = s->_secured = false;
  s->_messages = s->_count = s->_line_len = 0;
}

void sender_broken(struct sender *s) {
  if (s->state == SENDER_OVER || s->state == SENDER_NONE) return;
  if (s->state != SENDER_QUITTING) counter_add(&s->_stats->broken, 1);
  abandon(s, false);
}

int sender_init(struct sender *s, const struct sender_plan *plan, struct sender_stats *stats, const struct sender_host *host) {
  size_t text_cap = 256 + HEADER_ROOM + plan->from.len + plan->hostname.len + (size_t)plan->recipients * RECIPIENT_TEXT_MAX;
  unsigned slices = 16 + (unsigned)(plan->size / (CONTENT_BLOCK_LINES * CONTENT_LINE));
  *s = (struct sender){._plan = plan, ._stats = stats, ._host = *host, ._slice_cap = slices};
  s->_text = fmt_over(malloc(text_cap), text_cap);
  s->slices = calloc(slices, sizeof *s->slices);
  s->_under_way[0].taken = malloc(plan->recipients);
  s->_under_way[1].taken = malloc(plan->recipients);
  if (s->_text.at != NULL && s->slices != NULL && s->_under_way[0].taken != NULL && s->_under_way[1].taken != NULL) return E_OK;
  sender_fini(s);
  return E_NO_MEMORY;
}

void sender_fini(struct sender *s) {
  free(s->_text.at);
  free(s->slices);
  free(s->_under_way[0].taken);
  free(s->_under_way[1].taken);
}
