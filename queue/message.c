#include "queue/message.h"

#include <stdlib.h>

static uint8_t *strings_of(const struct message *message) { return (uint8_t *)(uintptr_t)&message->recipient[message->recipients]; }

static void *block_get(struct slab *slab, size_t size) { return size <= SLAB_MAX ? slab_get(slab, size) : malloc(size); }

/* The strings end with the last recipient's. */
static size_t block_size(const struct message *message) {
  size_t strings = (size_t)message->sender_len + message->envid_len + message->peer_len;
  if (message->recipients > 0) {
    const struct recipient *last = &message->recipient[message->recipients - 1];
    strings = (size_t)last->address_at + last->address_len + last->orcpt_len;
  }
  return sizeof *message + message->recipients * sizeof message->recipient[0] + strings;
}

/* How many bytes of strings the envelope has; also proves that all of it can be read. Negative: damaged. */
static int64_t measure(struct span bytes, struct record_envelope *envelope) {
  if (record_envelope_decode(envelope, &bytes) != 0 || envelope->recipients > UINT16_MAX) return -1;
  uint64_t strings = envelope->sender.len + envelope->envid.len + envelope->peer.len;
  for (uint32_t i = 0; i < envelope->recipients; i++) {
    struct record_recipient recipient;
    if (record_recipient_decode(&recipient, &bytes) != 0) return -1;
    strings += recipient.address.len + recipient.orcpt.len;
  }
  return (int64_t)strings;
}

static uint32_t keep(struct fmt *strings, struct span text) {
  uint32_t at = (uint32_t)strings->len;
  fmt_put(strings, text);
  return at;
}

struct message *message_new(struct slab *slab, uint64_t id, struct span bytes) {
  struct record_envelope envelope;
  int64_t strings_size = measure(bytes, &envelope);
  if (strings_size < 0) return NULL;
  size_t size = sizeof(struct message) + envelope.recipients * sizeof(struct recipient) + (size_t)strings_size;
  struct message *message = block_get(slab, size);
  if (message == NULL) return NULL;
  *message = (struct message){
      .id = id,
      .created_ms = envelope.created_ms,
      .session = envelope.session,
      .recipients = (uint16_t)envelope.recipients,
      .live = (uint16_t)envelope.recipients,
      .ret = envelope.ret,
      .smtputf8 = envelope.smtputf8,
      .eight_bit = envelope.eight_bit,
      .leading_dot = envelope.leading_dot,
      .require_tls = envelope.require_tls,
      .tls_optional = envelope.tls_optional,
      .sender_len = (uint16_t)envelope.sender.len,
      .envid_len = (uint16_t)envelope.envid.len,
      .peer_len = (uint16_t)envelope.peer.len,
  };
  struct fmt strings = fmt_over(strings_of(message), (size_t)strings_size);
  int error = record_envelope_decode(&envelope, &bytes);
  must(error == 0);
  keep(&strings, envelope.sender);
  keep(&strings, envelope.envid);
  keep(&strings, envelope.peer);
  for (uint32_t i = 0; i < envelope.recipients; i++) {
    struct record_recipient recipient;
    error = record_recipient_decode(&recipient, &bytes);
    must(error == 0);
    message->recipient[i] = (struct recipient){
        .due_ms = recipient.due_ms,
        .address_at = keep(&strings, recipient.address),
        .address_len = (uint16_t)recipient.address.len,
        .orcpt_len = (uint16_t)recipient.orcpt.len,
        .attempts = recipient.attempts,
        .index = recipient.index,
        .at = (uint16_t)i,
        .notify = recipient.notify,
        .state = RECIPIENT_WAITING,
    };
    keep(&strings, recipient.orcpt);
  }
  must(!strings.overflow && block_size(message) == size);
  return message;
}

void message_free(struct slab *slab, struct message *message) {
  content_free(slab, message->content);
  free(message->parts);
  size_t size = block_size(message);
  if (size <= SLAB_MAX) {
    slab_put(slab, message, size);
  } else {
    free(message);
  }
}

static void recipient_outcome(struct message *message, struct recipient *recipient, const struct record_outcome *outcome) {
  bool ended = record_outcome_is_end(outcome->kind);
  if (recipient->state == RECIPIENT_DONE || (!ended && outcome->attempts < recipient->attempts)) return; /* from before the record was written anew */
  recipient->attempts = outcome->attempts;
  recipient->due_ms = outcome->due_ms;
  if (!ended) return;
  recipient->state = RECIPIENT_DONE;
  message->live--;
}

void message_mark(struct message *message, uint16_t recipient, uint8_t marks) {
  for (unsigned i = 0; i < message->recipients; i++)
    if (message->recipient[i].index == recipient) message->recipient[i].notify |= marks;
}

void message_outcome(struct message *message, const struct record_outcome *outcome) {
  uint8_t mark = record_outcome_mark(outcome->kind);
  if (mark != 0) {
    message_mark(message, outcome->recipient, mark);
    return;
  }
  for (unsigned i = 0; i < message->recipients; i++)
    if (message->recipient[i].index == outcome->recipient) recipient_outcome(message, &message->recipient[i], outcome);
}

struct span message_sender(const struct message *m) {
  return span_of(strings_of(m), m->sender_len);
}
struct span message_envid(const struct message *m) {
  return span_of(strings_of(m) + m->sender_len, m->envid_len);
}
struct span message_peer(const struct message *m) {
  return span_of(strings_of(m) + m->sender_len + m->envid_len, m->peer_len);
}

struct span message_address(const struct message *m, unsigned i) {
  return span_of(strings_of(m) + m->recipient[i].address_at, m->recipient[i].address_len);
}
struct span message_orcpt(const struct message *m, unsigned i) {
  return span_of(strings_of(m) + m->recipient[i].address_at + m->recipient[i].address_len, m->recipient[i].orcpt_len);
}

struct span message_domain(const struct message *m, unsigned i) {
  struct span address = message_address(m, i);
  const uint8_t *at = address.len == 0 ? NULL : memrchr(address.at, '@', address.len);
  return at == NULL ? (struct span){NULL, 0} : span_skip(address, (size_t)(at + 1 - address.at));
}

void message_end_record(struct content *content, enum record_type type, uint64_t id, uint32_t parts, unsigned padding) {
  uint32_t content_bytes = (uint32_t)content_size(content); /* before it is padded */
  struct record_header header = {.type = type,
                                 .length = content_pad(content, padding),
                                 .envelope_size = content->head_size - RECORD_HEADER_SIZE,
                                 .content_size = content_bytes,
                                 .parts = parts,
                                 .id = id};
  record_header_encode(&header, content->slice[0].at);
}

bool message_write_head(struct slab *slab, const struct message *message, struct content *content) {
  static const uint8_t header[RECORD_HEADER_SIZE];
  uint8_t room[4096];
  struct record_envelope envelope = {
      .sender = message_sender(message),
      .envid = message_envid(message),
      .peer = message_peer(message),
      .created_ms = message->created_ms,
      .session = message->session,
      .ret = message->ret,
      .smtputf8 = message->smtputf8,
      .eight_bit = message->eight_bit,
      .leading_dot = message->leading_dot,
      .require_tls = message->require_tls,
      .tls_optional = message->tls_optional,
      .recipients = message->live,
  };
  struct fmt out = fmt_over(room, sizeof room);
  record_envelope_encode(&envelope, &out);
  if (out.overflow || !content_append(slab, content, span_of(header, sizeof header)) || !content_append(slab, content, fmt_span(&out))) return false;
  for (unsigned i = 0; i < message->recipients; i++) {
    if (message->recipient[i].state == RECIPIENT_DONE) continue;
    struct record_recipient recipient = {.address = message_address(message, i),
                                         .orcpt = message_orcpt(message, i),
                                         .index = message->recipient[i].index,
                                         .notify = message->recipient[i].notify,
                                         .attempts = message->recipient[i].attempts,
                                         .due_ms = recipient_due_on_disk(&message->recipient[i])};
    out = fmt_over(room, sizeof room);
    record_recipient_encode(&recipient, &out);
    if (out.overflow || !content_append(slab, content, fmt_span(&out))) return false;
  }
  content_end_head(content);
  return true;
}
