#include "net/out/dsn.h"

#include <stdlib.h>
#include <xxhash.h>

#include "core/base/canary.h"
#include "core/base/error.h"
#include "net/out/outlet.h"
#include "net/smtp/command.h"

#define RETRY_MS 1000           /* after memory or disk ran out */
#define HEADER_MAX (128u << 10) /* of an original: what is looked at for its end */
#define RETURN_MAX (1u << 20)   /* a report is one record */
#define MINUTE_MS 60000

struct failed {
  unsigned recipient;
  enum record_outcome_kind end;
  struct note *note;
};

struct dsn {
  struct spool_entry entry;
  struct load load;
  struct timer timer;
  struct outlet *outlet;
  struct dsn *next, *prev; /* of the outlet's */
  enum report_action action;
  struct message *about;
  struct failed *failed;
  unsigned count, capacity;
  struct message *message; /* the report, while it is being stored */
  bool unreadable;         /* the original cannot be read: it goes without */
};

/* ---- who wants one ---- */

static bool is_asked_for(uint8_t notify, enum smtp_notify what, bool by_default) {
  notify &= RECORD_NOTIFY;
  return notify == SMTP_NOTIFY_DEFAULT ? by_default : (notify & what) != 0;
}

static bool is_wanted(const struct outlet *outlet, const struct message *message, unsigned i, enum fate fate, const struct outlet_peer *peer) {
  const struct conf *conf = outlet->o.conf;
  const struct recipient *recipient = &message->recipient[i];
  if (!conf->dsn_send || message_sender(message).len == 0) return false; /* never about a report (RFC 5321 4.5.5) */
  switch (fate) {
  case FATE_FAILED: return is_asked_for(recipient->notify, SMTP_NOTIFY_FAILURE, true);
  case FATE_DELIVERED: return is_asked_for(recipient->notify, SMTP_NOTIFY_SUCCESS, false) && peer != NULL && !peer->reports;
  case FATE_DEFERRED:
    if (conf->dsn_delay_ms == 0 || outlet->o.shard->wall_ms < message->created_ms + conf->dsn_delay_ms) return false;
    return (recipient->notify & RECORD_WARNED_BIT) == 0 && is_asked_for(recipient->notify, SMTP_NOTIFY_DELAY, true);
  default: return false;
  }
}

struct note *dsn_note(const struct outlet *outlet, const struct message *message, unsigned recipient, const struct decision *decision,
                      struct span text, const struct outlet_peer *peer) {
  if (!is_wanted(outlet, message, recipient, decision->fate, peer)) return NULL;
  struct span remote = peer == NULL ? span_of(NULL, 0) : span_of_text(peer->host);
  text = span_first(text, UINT16_MAX);
  struct note *note = malloc(sizeof *note + text.len + remote.len);
  if (note == NULL) return NULL;
  *note = (struct note){.code = decision->replied ? decision->code : 0, .text_len = (uint16_t)text.len, .remote_len = (uint16_t)remote.len};
  memcpy(note->enhanced, decision->enhanced, sizeof note->enhanced);
  if (text.len > 0) memcpy(note->bytes, text.at, text.len);
  if (remote.len > 0) memcpy(note->bytes + text.len, remote.at, remote.len);
  return note;
}

/* So many a minute to each sender; senders that share a place in the table share the number. */
static bool is_within_rate(struct outlet *outlet, struct span sender) {
  struct dsn_rate *rate = &outlet->dsn_rates[XXH3_64bits(sender.at, sender.len) % OUTLET_DSN_RATES];
  uint64_t minute = outlet->o.shard->now_ms / MINUTE_MS;
  if (rate->minute != minute) *rate = (struct dsn_rate){.minute = minute};
  return rate->sent++ < outlet->o.conf->dsn_rate;
}

/* ---- life ---- */

static void link_dsn(struct dsn *dsn) {
  dsn->next = dsn->outlet->dsns;
  if (dsn->next != NULL) dsn->next->prev = dsn;
  dsn->outlet->dsns = dsn;
  dsn->outlet->dsns_count++;
}

static void unlink_dsn(struct dsn *dsn) {
  *(dsn->prev != NULL ? &dsn->prev->next : &dsn->outlet->dsns) = dsn->next;
  dsn->outlet->dsns_count--;
  if (dsn->next != NULL) dsn->next->prev = dsn->prev;
}

static void free_dsn(struct dsn *dsn) {
  timer_cancel(&dsn->outlet->o.shard->wheel, &dsn->timer);
  for (unsigned i = 0; i < dsn->count; i++) free(dsn->failed[i].note);
  free(dsn->failed);
  free(dsn);
}

static struct dsn *new_dsn(struct outlet *outlet, enum report_action action, struct message *message) {
  struct dsn *dsn = calloc(1, sizeof *dsn);
  if (dsn == NULL) return NULL;
  dsn->outlet = outlet;
  dsn->action = action;
  dsn->about = message;
  schedule_job_began(message);
  link_dsn(dsn);
  return dsn;
}

bool dsn_add(struct outlet *outlet, struct dsn **out, enum report_action action, struct message *message, unsigned recipient, struct note *note,
             enum record_outcome_kind end) {
  if (*out == NULL) *out = new_dsn(outlet, action, message);
  struct dsn *dsn = *out;
  bool has_room = dsn != NULL && dsn->count < dsn->capacity;
  if (dsn != NULL && !has_room) {
    unsigned capacity = dsn->capacity == 0 ? 4 : dsn->capacity * 2;
    struct failed *grown = realloc(dsn->failed, capacity * sizeof *grown);
    if (grown != NULL) {
      dsn->failed = grown;
      dsn->capacity = capacity;
      has_room = true;
    }
  }
  if (!has_room) {
    free(note);
    return false;
  }
  dsn->failed[dsn->count++] = (struct failed){recipient, end, note};
  return true;
}

/* The recipients go where they would have gone without it. The original may be freed by this. */
static void end_dsn(struct dsn *dsn) {
  struct schedule *schedule = dsn->outlet->o.schedule;
  struct message *about = dsn->about;
  for (unsigned i = 0; i < dsn->count; i++)
    if (dsn->failed[i].end != RECORD_OUTCOME_INVALID) schedule_done(schedule, about, dsn->failed[i].recipient, dsn->failed[i].end);
  unlink_dsn(dsn);
  free_dsn(dsn);
  schedule_job_ended(schedule, about);
}

/* The recipients stay without an end: after the next start their senders are told, and nothing else is done for them (outlet_due). */
static void abandon_dsn(struct dsn *dsn) {
  struct schedule *schedule = dsn->outlet->o.schedule;
  struct message *about = dsn->about;
  for (unsigned i = 0; i < dsn->count; i++)
    if (dsn->failed[i].end != RECORD_OUTCOME_INVALID) schedule_mark(schedule, about, dsn->failed[i].recipient, RECORD_OWED);
  unlink_dsn(dsn);
  free_dsn(dsn);
  schedule_job_ended(schedule, about);
}

static void try_later(struct dsn *dsn) {
  const struct outlet *outlet = dsn->outlet;
  if (outlet->stopping || spool_failed(outlet->o.schedule->spool) != E_OK) {
    abandon_dsn(dsn);
  } else if (dsn->action == REPORT_FAILED) {
    timer_set(&dsn->outlet->o.shard->wheel, &dsn->timer, dsn->outlet->o.shard->now_ms + RETRY_MS);
  } else {
    count_add(dsn->outlet->o.counters, COUNT_DSN_SUPPRESSED, 1);
    end_dsn(dsn);
  }
}

/* ---- what it says ---- */

static struct report_recipient recipient_of(const struct dsn *dsn, const struct failed *failed) {
  const struct note *note = failed->note;
  struct report_recipient recipient = {.address = message_address(dsn->about, failed->recipient),
                                       .orcpt = message_orcpt(dsn->about, failed->recipient),
                                       .code = note->code,
                                       .text = span_of(note->bytes, note->text_len),
                                       .remote = span_of(note->bytes + note->text_len, note->remote_len)};
  memcpy(recipient.enhanced, note->enhanced, sizeof recipient.enhanced);
  return recipient;
}

/* RFC 3461 4.3: all of it goes back only with a failure, and only where that was asked for. */
static bool returns_all(const struct dsn *dsn) {
  const struct message *about = dsn->about;
  const struct conf *conf = dsn->outlet->o.conf;
  if (dsn->action != REPORT_FAILED || about->ret != SMTP_RET_FULL || about->parts_count > 0) return false;
  return about->size <= conf->dsn_return_max && about->size <= RETURN_MAX;
}

/* The beginning of the original, as much as may be needed, in one piece; from malloc. */
static bool copy_original(const struct dsn *dsn, uint8_t **bytes, struct span *original) {
  const struct content *content = dsn->about->parts_count > 0 ? dsn->load.content : message_content(dsn->about);
  *bytes = NULL;
  *original = span_of(NULL, 0);
  if (dsn->unreadable || content == NULL) return true;
  struct io_slice slices[CONTENT_CHUNKS_MAX];
  unsigned count = content_slices(content, slices);
  size_t wanted = returns_all(dsn) ? (size_t)content_size(content) : HEADER_MAX, len = 0;
  *bytes = malloc(wanted + 1);
  if (*bytes == NULL) return false;
  for (unsigned i = 0; i < count && len < wanted; i++) {
    size_t piece = slices[i].len < wanted - len ? slices[i].len : wanted - len;
    memcpy(*bytes + len, slices[i].at, piece);
    len += piece;
  }
  *original = span_of(*bytes, len);
  return true;
}

static bool has_high_bytes(struct span bytes) {
  for (size_t i = 0; i < bytes.len; i++)
    if (bytes.at[i] > 0x7f) return true;
  return false;
}

static bool append_fmt(struct slab *slab, struct content *content, const struct fmt *out) {
  must(!out->overflow);
  return content_append(slab, content, fmt_span(out));
}

static bool append_text(struct slab *slab, struct content *content, const struct report *report, struct span returned) {
  size_t room = status_report_size_max(report);
  uint8_t end_room[256], *begin_room = malloc(room);
  struct fmt begin = fmt_over(begin_room, room), end = fmt_over(end_room, sizeof end_room);
  bool done = false;
  if (begin_room != NULL) {
    status_report_begin(report, &begin);
    status_report_end(report, returned.len > 0 && returned.at[returned.len - 1] == '\n', &end);
    done = append_fmt(slab, content, &begin) && content_append(slab, content, returned) && append_fmt(slab, content, &end);
  }
  free(begin_room);
  return done;
}

/* ---- the message ---- */

static bool append_head(const struct dsn *dsn, struct content *content, const struct report *report) {
  static const uint8_t header[RECORD_HEADER_SIZE];
  struct outlet *outlet = dsn->outlet;
  uint8_t room[2048];
  struct fmt out = fmt_over(room, sizeof room);
  struct record_envelope envelope = {.created_ms = outlet->o.shard->wall_ms,
                                     .smtputf8 = report->utf8,
                                     .eight_bit = report->eight_bit || report->utf8,
                                     .require_tls = dsn->about->require_tls,
                                     .tls_optional = dsn->about->tls_optional,
                                     .recipients = 1}; /* RFC 8689 5 */
  if (canary(CANARY_REPORT_SENDER)) envelope.sender = message_sender(dsn->about);
  /* RFC 3461 5.2: a report is never reported on */
  struct record_recipient recipient = {.address = message_sender(dsn->about), .notify = SMTP_NOTIFY_NEVER};
  record_envelope_encode(&envelope, &out);
  record_recipient_encode(&recipient, &out);
  bool done = content_append(outlet->o.slab, content, span_of(header, sizeof header)) && append_fmt(outlet->o.slab, content, &out);
  content_end_head(content);
  return done;
}

static struct message *message_of(const struct dsn *dsn, const struct report *report, struct span returned) {
  struct slab *slab = dsn->outlet->o.slab;
  struct content *content = content_new(slab, status_report_size_max(report) + returned.len + 1024);
  if (content == NULL) return NULL;
  struct message *message = NULL;
  if (append_head(dsn, content, report) && append_text(slab, content, report, returned)) {
    struct span envelope = span_of((uint8_t *)content->slice[0].at + RECORD_HEADER_SIZE, content->head_size - RECORD_HEADER_SIZE);
    uint64_t size = content_size(content);
    message_end_record(content, RECORD_MESSAGE, report->id, 0, spool_padding(dsn->outlet->o.schedule->spool));
    message = message_new(slab, report->id, envelope);
    if (message != NULL) message->size = size;
  }
  if (message == NULL) {
    content_free(slab, content);
  } else {
    message->content = content;
  }
  return message;
}

/* NULL: no memory. */
static struct message *compose(const struct dsn *dsn) {
  const struct outlet *outlet = dsn->outlet;
  const struct message *about = dsn->about;
  struct report_recipient *recipients = malloc(dsn->count * sizeof *recipients);
  uint8_t *bytes = NULL;
  struct span original;
  struct message *message = NULL;
  if (recipients != NULL && copy_original(dsn, &bytes, &original)) {
    for (unsigned i = 0; i < dsn->count; i++) recipients[i] = recipient_of(dsn, &dsn->failed[i]);
    struct report report = {.action = dsn->action,
                            .returns = returns_all(dsn) ? RETURNS_ALL : RETURNS_HEADER,
                            .hostname = span_of_text(outlet->o.conf->hostname),
                            .to = message_sender(about),
                            .envid = message_envid(about),
                            .id = outlet->o.new_id(outlet->o.ids),
                            .original_id = about->id,
                            .now_ms = outlet->o.shard->wall_ms,
                            .arrived_ms = about->created_ms,
                            .until_ms = about->created_ms + outlet_max_age_ms(outlet, domain_entry(outlet, about, dsn->failed[0].recipient)),
                            .utf8 = about->smtputf8,
                            .recipient = recipients,
                            .recipients = dsn->count};
    struct span returned = status_report_returned(&report, original);
    report.eight_bit = has_high_bytes(returned);
    message = message_of(dsn, &report, returned);
  }
  free(recipients);
  free(bytes);
  return message;
}

/* ---- its way ---- */

static void report_reception(const struct dsn *dsn) {
  const struct outlet *outlet = dsn->outlet;
  const struct message *message = dsn->message;
  uint8_t domain[256];
  char text[64];
  struct fmt content = fmt_over(text, sizeof text);
  fmt_text(&content, "report about ");
  fmt_hex64(&content, dsn->about->id);
  struct event event = {.type = EVENT_RECEPTION,
                        .id = message->id,
                        .recipient = message_address(message, 0),
                        .queue = span_lower(message_domain(message, 0), domain, sizeof domain),
                        .size = message->size,
                        .timestamp_ms = outlet->o.shard->wall_ms,
                        .created_ms = message->created_ms,
                        .code = 250,
                        .enhanced = {2, 0, 0},
                        .content = fmt_span(&content),
                        .command = SPAN("DSN")};
  event_write(outlet->o.events, &event);
}

static void durable(struct spool_entry *entry, int error) {
  struct dsn *dsn = (struct dsn *)entry;
  struct outlet *outlet = dsn->outlet;
  struct message *message = dsn->message;
  if (error != E_OK) {
    dsn->message = NULL;
    message_free(outlet->o.slab, message);
    try_later(dsn);
    return;
  }
  message->place = entry->place;
  report_reception(dsn);
  count_add(outlet->o.counters, COUNT_DSN_SENT, 1);
  end_dsn(dsn);
  schedule_add(outlet->o.schedule, message);
}

static void store(struct dsn *dsn) {
  dsn->message = compose(dsn);
  content_free(dsn->outlet->o.slab, dsn->load.content); /* of a part */
  dsn->load.content = NULL;
  if (dsn->message == NULL) {
    try_later(dsn);
    return;
  }
  struct content *content = message_content(dsn->message);
  dsn->entry = (struct spool_entry){.slices = content->slice, .slices_count = content->chunks, .durable = durable};
  spool_append(dsn->outlet->o.schedule->spool, &dsn->entry);
}

static void loaded(struct load *load, int error) {
  struct dsn *dsn = load->context;
  if (error == E_NO_MEMORY) {
    try_later(dsn);
    return;
  }
  dsn->unreadable = error != E_OK;
  store(dsn);
}

static void begin(struct dsn *dsn) {
  dsn->load = (struct load){.message = dsn->about, .part = 0, .done = loaded, .context = dsn}; /* of a long one the first part: there the header is */
  schedule_load(dsn->outlet->o.schedule, &dsn->load);
}

static void due(void *context, struct timer *timer) {
  (void)context;
  begin((struct dsn *)((uint8_t *)timer - offsetof(struct dsn, timer)));
}

void dsn_send(struct dsn *dsn) {
  if (dsn == NULL) return;
  dsn->timer.fire = due;
  if (dsn->count > 0 && !canary(CANARY_LOST_REPORT) && is_within_rate(dsn->outlet, message_sender(dsn->about))) {
    begin(dsn);
  } else {
    count_add(dsn->outlet->o.counters, COUNT_DSN_SUPPRESSED, dsn->count > 0 ? 1 : 0);
    end_dsn(dsn);
  }
}

void dsns_stop(struct outlet *outlet) {
  for (struct dsn *dsn = outlet->dsns, *next; dsn != NULL; dsn = next) {
    next = dsn->next;
    if (timer_is_set(&dsn->timer)) abandon_dsn(dsn); /* the others are under way */
  }
}

/* What the spool still writes from stays where it is until the slab goes. */
void dsns_close(struct outlet *outlet) {
  for (struct dsn *dsn = outlet->dsns, *next; dsn != NULL; dsn = next) {
    next = dsn->next;
    free_dsn(dsn);
  }
  outlet->dsns = NULL;
}
