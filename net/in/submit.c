#include "net/in/submit.h"

#include <stdlib.h>

#include "core/base/error.h"

/* 42 bits of milliseconds (until 2109), 8 of shard, 14 of number. */
#define ID_SHARD_SHIFT 14
#define ID_TIME_SHIFT 22

/* Of encoded recipients: half a part, so that there is always room for content, and no part is written for a few bytes of it. 100 recipients with the longest
 * addresses and ORCPT (RFC 5321 4.5.3.1.8 wants that many taken) need a sixth of it. */
#define ENVELOPE_MAX (512u << 10)

uint64_t submit_new_id(struct submit_context *context) {
  uint64_t shard = (uint64_t)(context->shard->index & 0xff) << ID_SHARD_SHIFT;
  uint64_t id = (context->shard->wall_ms << ID_TIME_SHIFT) | shard;
  uint64_t number_mask = ((uint64_t)1 << ID_SHARD_SHIFT) - 1, shard_mask = ((uint64_t)0xff) << ID_SHARD_SHIFT;
  if ((context->last_id & shard_mask) !=
      shard) /* the newest in the spools is of another shard: we go on behind its millisecond, with our own number */
    context->last_id = context->last_id >> ID_TIME_SHIFT << ID_TIME_SHIFT | shard | number_mask;
  if ((id | number_mask) <= context->last_id || (id & ~number_mask) == (context->last_id & ~number_mask)) {
    id = context->last_id + 1; /* the same millisecond, or a clock that was set back: count on from the last */
    if ((id & number_mask) == 0) id = ((context->last_id >> ID_TIME_SHIFT) + 1) << ID_TIME_SHIFT | shard;
  }
  context->last_id = id;
  return id;
}

/* ---- those with parts ---- */

static void link_submission(struct submission *submission) {
  struct submit_context *context = submission->context;
  submission->prev = NULL;
  submission->next = context->with_parts;
  if (context->with_parts != NULL) context->with_parts->prev = submission;
  context->with_parts = submission;
}

/* Harmless for one that is not in the list. */
static void unlink_submission(struct submission *submission) {
  struct submit_context *context = submission->context;
  if (submission->prev != NULL) submission->prev->next = submission->next;
  if (submission->next != NULL) submission->next->prev = submission->prev;
  if (context->with_parts == submission) context->with_parts = submission->next;
  submission->next = submission->prev = NULL;
}

static void submission_free(struct submission *submission) {
  struct submit_context *context = submission->context;
  unlink_submission(submission);
  content_free(context->slab, submission->content);
  buffer_free(context->slab, &submission->envelope);
  buffer_free(context->slab, &submission->sender);
  free(submission->parts);
  slab_put(context->slab, submission, sizeof *submission);
}

struct submission *submit_begin(struct submit_context *context, const struct smtp_mail *mail, const struct netaddr *peer, uint64_t session) {
  struct submission *submission = slab_get(context->slab, sizeof *submission);
  if (submission == NULL) return NULL;
  *submission = (struct submission){.context = context,
                                    .peer = *peer,
                                    .session = session,
                                    .ret = mail->ret,
                                    .smtputf8 = mail->smtputf8,
                                    .require_tls = mail->require_tls,
                                    .eight_bit = mail->body == SMTP_BODY_8BITMIME,
                                    .created_ms = context->shard->wall_ms,
                                    .sender_len = (uint32_t)mail->sender.whole.len};
  struct fmt text = fmt_over(submission->peer_text, sizeof submission->peer_text);
  netaddr_format(peer, &text);
  must(!text.overflow);
  submission->peer_len = (uint8_t)text.len;
  if (buffer_append(context->slab, &submission->sender, mail->sender.whole) && buffer_append(context->slab, &submission->sender, mail->envid))
    return submission;
  submission_free(submission);
  return NULL;
}

bool submit_recipient(struct submission *submission, const struct smtp_rcpt *rcpt) {
  struct submit_context *context = submission->context;
  uint8_t whole[ADDRESS_MAX + 2 + ADDRESS_DOMAIN_MAX];
  struct fmt address = fmt_over(whole, sizeof whole);
  fmt_put(&address, rcpt->recipient.whole);
  if (rcpt->recipient.domain.len == 0) { /* <postmaster>: ours (RFC 5321 4.5.1) */
    fmt_char(&address, '@');
    fmt_put(&address, context->hostname);
  }
  struct record_recipient recipient = {
      .address = fmt_span(&address), .orcpt = rcpt->orcpt, .notify = rcpt->notify, .index = (uint16_t)submission->recipients};
  size_t size = record_recipient_size(&recipient);
  if (address.overflow || submission->envelope.len + size > ENVELOPE_MAX || !buffer_reserve(context->slab, &submission->envelope, size)) return false;
  struct fmt out = buffer_fmt(&submission->envelope);
  record_recipient_encode(&recipient, &out);
  must(!out.overflow);
  buffer_wrote(&submission->envelope, &out);
  submission->recipients++;
  return true;
}

/* ---- head and Received ---- */

static struct span peer_text(const struct submission *submission) { return span_of(submission->peer_text, submission->peer_len); }

static struct record_envelope envelope_of(const struct submission *submission, const struct data_scan *scan) {
  struct span sender = buffer_span(&submission->sender);
  return (struct record_envelope){
      .sender = span_first(sender, submission->sender_len),
      .envid = span_skip(sender, submission->sender_len),
      .peer = peer_text(submission),
      .created_ms = submission->created_ms,
      .session = submission->session,
      .ret = (uint8_t)submission->ret,
      .smtputf8 = submission->smtputf8,
      .require_tls = submission->require_tls,
      .tls_optional = !submission->require_tls && (submission->header.fields & HEADER_TLS_OPTIONAL) != 0,
      /* What was declared counts only until the content is known; our own Received may name UTF-8 addresses. */
      .eight_bit = submission->smtputf8 || (scan != NULL ? scan->eight_bit : submission->eight_bit),
      .leading_dot = scan != NULL && scan->leading_dot,
      .recipients = submission->recipients,
  };
}

/* The head in front of the content: header room, envelope, recipients. `scan` is not known yet for the first record: the flags are put right in submit_end. */
static bool append_head(struct submission *submission, struct content *content, const struct data_scan *scan) {
  static const uint8_t header[RECORD_HEADER_SIZE];
  struct slab *slab = submission->context->slab;
  uint8_t room[2048];
  struct fmt out = fmt_over(room, sizeof room);
  struct record_envelope envelope = envelope_of(submission, scan);
  record_envelope_encode(&envelope, &out);
  if (out.overflow || !content_append(slab, content, span_of(header, sizeof header)) || !content_append(slab, content, fmt_span(&out)) ||
      !content_append(slab, content, buffer_span(&submission->envelope)))
    return false;
  content_end_head(content);
  return true;
}

static void put_address_literal(struct fmt *out, const struct submission *submission) {
  fmt_text(out, submission->peer.family == 6 ? "[IPv6:" : "[");
  fmt_put(out, peer_text(submission));
  fmt_char(out, ']');
}

/* Messages come by the thousand in a second: its date is made once. */
static struct span date_now(struct submit_context *context) {
  uint64_t now_s = context->shard->wall_ms / 1000;
  if (now_s != context->date_s || context->date_len == 0) {
    struct fmt date = fmt_over(context->date, sizeof context->date);
    fmt_date(&date, context->shard->wall_ms);
    must(!date.overflow);
    context->date_len = (uint8_t)date.len;
    context->date_s = now_s;
  }
  return span_of(context->date, context->date_len);
}

static bool append_received(struct submission *submission, struct span hello, const char *protocol) {
  struct submit_context *context = submission->context;
  uint8_t room[2048];
  struct fmt out = fmt_over(room, sizeof room);
  struct span only = buffer_span(&submission->envelope);
  struct record_recipient recipient;
  fmt_text(&out, "Received: from ");
  fmt_put(&out, hello);
  fmt_text(&out, " (");
  put_address_literal(&out, submission);
  fmt_text(&out, ")\r\n\tby ");
  fmt_put(&out, context->hostname);
  fmt_text(&out, " (Ringpost) with ");
  fmt_text(&out, protocol);
  fmt_text(&out, " id ");
  fmt_hex64(&out, submission->id);
  if (submission->recipients == 1 &&
      record_recipient_decode(&recipient, &only) == E_OK) { /* of several, none is named: they need not know of each other */
    fmt_text(&out, "\r\n\tfor <");
    fmt_put(&out, recipient.address);
    fmt_char(&out, '>');
  }
  fmt_text(&out, ";\r\n\t");
  fmt_put(&out, date_now(context));
  fmt_text(&out, "\r\n");
  must(!out.overflow);
  return content_append(context->slab, submission->content, fmt_span(&out));
}

bool submit_data(struct submission *submission, struct span hello, const char *protocol, uint64_t size_hint) {
  struct submit_context *context = submission->context;
  header_scan_init(&submission->header);
  submission->id = submit_new_id(context);
  submission->created_ms = context->shard->wall_ms;
  uint64_t expected = size_hint == 0 ? 0 : size_hint + submission->envelope.len + 1024;
  submission->content = content_new(context->slab, expected);
  bool ready = submission->content != NULL && append_head(submission, submission->content, NULL) && append_received(submission, hello, protocol);
  if (ready) submission->size = content_size(submission->content);
  return ready;
}

/* ---- records ---- */

struct part_write {
  struct spool_entry entry;
  struct submission *submission;
  struct content *content;
  uint32_t number;
};

/* What is under way is forgotten when it arrives. */
static void forget_parts(struct submission *submission) {
  struct message *message = submission->message;
  struct spool *spool = submission->context->spool;
  for (uint32_t i = 0; i < submission->parts_count; i++) {
    spool_forget(spool, submission->parts[i]);
    submission->parts[i] = (struct spool_place){0};
  }
  for (uint32_t i = 0; message != NULL && i < message->parts_count; i++) spool_forget(spool, message->parts[i]);
}

/* It will be refused at its end: nothing of it need be kept. */
static void fail(struct submission *submission, int error) {
  if (submission->error == E_OK) submission->error = error;
  forget_parts(submission);
}

void submit_clear_segment(struct submit_context *context, uint32_t segment) {
  for (struct submission *submission = context->with_parts; submission != NULL; submission = submission->next) {
    bool is_there = false;
    for (uint32_t i = 0; i < submission->parts_count; i++) is_there |= submission->parts[i].segment != 0 && submission->parts[i].segment <= segment;
    if (is_there) fail(submission, E_NO_SPACE);
  }
}

static void store(struct submission *submission);

static void part_durable(struct spool_entry *entry, int error) {
  struct part_write *part = (struct part_write *)entry;
  struct submission *submission = part->submission;
  struct slab *slab = submission->context->slab;
  content_free(slab, part->content);
  submission->writes--;
  if (error == E_OK) submission->parts[part->number] = entry->place;
  if (error != E_OK || submission->error != E_OK) fail(submission, error);
  slab_put(slab, part, sizeof *part);
  if (submission->abandoned) {
    if (submission->writes > 0) return;
    forget_parts(submission);
    submission_free(submission);
  } else if (!submission->ended) {
    submission->progress(submission->callback, submission->tag);
  } else if (submission->writes == 0) {
    store(submission);
  }
}

static int write_part(struct submission *submission) {
  struct submit_context *context = submission->context;
  struct spool_place *parts = realloc(submission->parts, (submission->parts_count + 1) * sizeof *parts);
  struct part_write *part = slab_get(context->slab, sizeof *part);
  struct content *next = content_new(context->slab, CONTENT_CHUNK_LARGE);
  if (parts != NULL) submission->parts = parts;
  if (parts == NULL || part == NULL || next == NULL || !append_head(submission, next, NULL)) {
    slab_put(context->slab, part, sizeof *part);
    content_free(context->slab, next);
    return E_NO_MEMORY;
  }
  if (submission->parts_count == 0) link_submission(submission);
  parts[submission->parts_count] = (struct spool_place){0};
  *part = (struct part_write){.submission = submission, .content = submission->content, .number = submission->parts_count++};
  submission->content = next;
  message_end_record(part->content, RECORD_PART, submission->id, part->number, spool_padding(context->spool));
  part->entry = (struct spool_entry){.slices = part->content->slice, .slices_count = part->content->chunks, .store = true, .durable = part_durable};
  submission->writes++;
  spool_append(context->spool, &part->entry);
  return E_OK;
}

/* What waited in a stash may be longer than what is left of a part. */
static void take_content(struct submission *submission, struct span bytes) {
  struct slab *slab = submission->context->slab;
  while (bytes.len > 0 && submission->error == E_OK) {
    struct span piece = span_first(bytes, CONTENT_CHUNK_LARGE);
    bytes = span_skip(bytes, piece.len);
    submission->size += piece.len;
    if (!content_append(slab, submission->content, piece)) {
      submission->error = E_NO_MEMORY;
    } else if (submission->content->chunks > SUBMIT_PART_CHUNKS) {
      submission->error = write_part(submission);
    }
  }
}

/* At the end of the header section. */
static void add_missing_fields(struct submission *submission) {
  struct submit_context *context = submission->context;
  uint8_t room[512];
  struct fmt out = fmt_over(room, sizeof room);
  submission->completes = false;
  if ((submission->header.fields & HEADER_DATE) == 0) {
    fmt_text(&out, "Date: ");
    fmt_put(&out, date_now(context));
    fmt_text(&out, "\r\n");
  }
  if ((submission->header.fields & HEADER_MESSAGE_ID) == 0) {
    fmt_text(&out, "Message-ID: <");
    fmt_hex64(&out, submission->id);
    fmt_char(&out, '@');
    fmt_put(&out, context->hostname);
    fmt_text(&out, ">\r\n");
  }
  must(!out.overflow);
  take_content(submission, fmt_span(&out));
}

static struct span take_header(struct submission *submission, struct span bytes) {
  size_t len = header_scan_feed(&submission->header, bytes);
  take_content(submission, span_first(bytes, len));
  if (submission->header.over) add_missing_fields(submission);
  return span_skip(bytes, len);
}

int submit_content(struct submission *submission, struct span bytes) {
  const struct slab *slab = submission->context->slab;
  if (submission->completes) {
    bytes = take_header(submission, bytes);
  } else if (submission->context->heeds_header && !submission->header.over) {
    (void)header_scan_feed(&submission->header, bytes);
  }
  take_content(submission, bytes);
  if (submission->error != E_OK) return submission->error;
  unsigned allowed = slab->used_bytes > slab->limit_bytes / 2 ? 1 : SUBMIT_PARTS_UNDER_WAY;
  return submission->writes >= allowed ? E_BUSY : E_OK;
}

/* ---- the end ---- */

/* Now the scanner has seen all: the flags of the envelope are written over what append_head put there, in the same length. */
static void correct_envelope(struct submission *submission, const struct data_scan *scan) {
  struct record_envelope envelope = envelope_of(submission, scan);
  struct io_slice *first = &submission->content->slice[0];
  struct fmt out = fmt_over((uint8_t *)first->at + RECORD_HEADER_SIZE, first->len - RECORD_HEADER_SIZE);
  record_envelope_encode(&envelope, &out);
  must(!out.overflow);
}

static struct message *make_message(struct submission *submission) {
  struct content *content = submission->content;
  struct span envelope = span_of((uint8_t *)content->slice[0].at + RECORD_HEADER_SIZE, content->head_size - RECORD_HEADER_SIZE);
  struct message *message = NULL;
  if (content->head_size <= content->slice[0].len) {
    message = message_new(submission->context->slab, submission->id, envelope);
  } else { /* so many recipients that the head spans chunks */
    struct span sender_part = envelope, bytes = {NULL, 0};
    uint8_t *whole = malloc(envelope.len);
    struct record_envelope skipped;
    if (whole == NULL) return NULL;
    int error = record_envelope_decode(&skipped, &sender_part);
    must(error == E_OK);
    size_t prefix = envelope.len - sender_part.len;
    memcpy(whole, envelope.at, prefix);
    memcpy(whole + prefix, submission->envelope.at, submission->envelope.len);
    bytes = span_of(whole, prefix + submission->envelope.len);
    message = message_new(submission->context->slab, submission->id, bytes);
    free(whole);
  }
  return message;
}

static void finish(struct submission *submission, int error) {
  struct message *message = submission->message;
  struct submit_context *context = submission->context;
  if (error != E_OK) {
    forget_parts(submission);
    if (message != NULL) message_free(context->slab, message);
    submission->message = message = NULL;
  }
  submission->done(submission->callback, submission->tag, submission, error);
  submission_free(submission);
  if (message != NULL) schedule_add(context->schedule, message);
}

static void message_durable(struct spool_entry *entry, int error) {
  struct submission *submission = (struct submission *)((uint8_t *)entry - offsetof(struct submission, entry));
  if (error == E_OK) submission->message->place = entry->place;
  finish(submission, error);
}

static void store(struct submission *submission) {
  struct message *message = submission->message;
  if (submission->error != E_OK) {
    finish(submission, submission->error);
    return;
  }
  message->parts = submission->parts;
  message->parts_count = submission->parts_count;
  submission->parts = NULL;
  submission->parts_count = 0;
  unlink_submission(submission);
  message_end_record(message->content, RECORD_MESSAGE, submission->id, message->parts_count, spool_padding(submission->context->spool));
  submission->entry = (struct spool_entry){
      .slices = message->content->slice, .slices_count = message->content->chunks, .store = message->parts_count > 0, .durable = message_durable};
  spool_append(submission->context->spool, &submission->entry);
}

void submit_end(struct submission *submission, const struct data_scan *scan, uint64_t tag, submit_done done, void *callback) {
  submission->ended = true;
  submission->tag = tag;
  submission->done = done;
  submission->callback = callback;
  if (submission->completes) add_missing_fields(submission);
  if (submission->error == E_OK) {
    correct_envelope(submission, scan);
    submission->message = make_message(submission);
    if (submission->message == NULL) submission->error = E_NO_MEMORY;
  }
  if (submission->error == E_OK) {
    struct message *message = submission->message;
    message->size = submission->size;
    message->content = submission->content;
    submission->content = NULL;
  }
  if (submission->writes == 0) store(submission);
}

void submit_drop_content(struct submission *submission) {
  content_free(submission->context->slab, submission->content);
  submission->content = NULL;
  submission->error = E_CANCELED; /* submit_content takes no more */
}

void submit_abandon(struct submission *submission) {
  if (submission == NULL) return;
  submission->abandoned = true;
  if (submission->writes > 0) return;
  forget_parts(submission);
  submission_free(submission);
}
