#include "net/in/reception.h"

#include "core/base/error.h"
#include "net/smtp/reply.h"

#define CONTENT_ROOM 512 /* of a reply of ours */

/* The addresses of a message's recipients, one after the other. */
struct addresses {
  const struct message *message; /* stored: by number; else from the encoded envelope */
  unsigned next;
  struct span envelope;
};

static struct span take_address(struct addresses *addresses) {
  struct record_recipient recipient;
  if (addresses->message != NULL) return message_address(addresses->message, addresses->next++);
  int error = record_recipient_decode(&recipient, &addresses->envelope);
  must(error == E_OK);
  return recipient.address;
}

static struct span domain_of(struct span address) {
  const uint8_t *at = address.len == 0 ? NULL : memrchr(address.at, '@', address.len);
  return at == NULL ? span_of(NULL, 0) : span_skip(address, (size_t)(at + 1 - address.at));
}

/* Writes the event for so many recipients at a time as `room` has place for. */
static void write_in_parts(const struct intake_options *o, const struct event *common, struct addresses *addresses, unsigned count, struct span *room,
                           unsigned size) {
  uint8_t domain[256];
  struct event event = *common;
  while (count > 0) {
    unsigned part = count < size ? count : size;
    for (unsigned i = 0; i < part; i++) room[i] = take_address(addresses);
    event.recipient = room[0];
    event.more_recipients = room + 1;
    event.more_recipients_count = part - 1;
    event.queue = span_lower(domain_of(room[0]), domain, sizeof domain);
    event_write(o->events, &event);
    count -= part;
  }
}

static void write_for_all(const struct intake_options *o, const struct event *event, struct addresses *addresses, unsigned count) {
  struct span few[16];
  unsigned few_count = sizeof few / sizeof few[0];
  struct span *many = count > few_count ? slab_get(o->slab, count * sizeof *many) : NULL;
  write_in_parts(o, event, addresses, count, many != NULL ? many : few, many != NULL ? count : few_count);
  slab_put(o->slab, many, count * sizeof *many);
}

static void write_accepted(const struct intake_options *o, const struct message *message, struct event *event) {
  struct addresses addresses = {.message = message};
  event->type = EVENT_RECEPTION;
  event->id = message->id;
  event->session_id = message->session;
  event->sender = message_sender(message);
  event->size = message->size;
  event->timestamp_ms = o->shard->wall_ms;
  event->created_ms = message->created_ms;
  event->code = 250;
  event->enhanced[0] = 2;
  event->content = SPAN("queued");
  event->command = message->session == 0 ? SPAN("DSN") : SPAN("DATA"); /* reports of our own have no session */
  write_for_all(o, event, &addresses, message->recipients);
}

void reception_accepted(const struct intake_options *o, const struct submission *submission, const struct reception_client *client) {
  write_accepted(o, submission->message,
                 &(struct event){.peer = client->peer,
                                 .peer_name = client->hello,
                                 .tls_version = client->tls_version,
                                 .tls_cipher = client->tls_cipher,
                                 .user = client->user,
                                 .tenant = client->tenant});
}

void reception_restored(const struct intake_options *o, const struct message *message) {
  struct event event = {.maybe_duplicate = true};
  int error = netaddr_parse(&event.peer, message_peer(message));
  if (error != E_OK) event.peer = (struct netaddr){0}; /* the disk may say anything: then it is left out */
  write_accepted(o, message, &event);
}

void reception_refused(const struct intake_options *o, const struct reception_refusal *refusal) {
  struct span line = refusal->reply;
  struct smtp_reply reply;
  char text[CONTENT_ROOM];
  struct fmt content = fmt_over(text, sizeof text);
  uint8_t domain[256];
  int got = reply_parse(&reply, &line);
  must(got == 1);
  reply_join(&reply, &content);
  struct event event = {
      .type = EVENT_REJECTION,
      .session_id = refusal->session,
      .sender = refusal->sender,
      .recipient = refusal->recipient,
      .queue = span_lower(refusal->domain, domain, sizeof domain),
      .size = refusal->size,
      .timestamp_ms = o->shard->wall_ms,
      .created_ms = o->shard->wall_ms,
      .peer = refusal->peer,
      .peer_name = refusal->hello,
      .code = reply.code,
      .enhanced = {reply.enhanced_class, reply.enhanced[0], reply.enhanced[1]},
      .content = fmt_span(&content),
      .command = span_of_text(refusal->command),
      .dns_list = refusal->list,
      .dns_list_answer = refusal->list_answer,
  };
  if (refusal->recipient.len > 0 || refusal->submission == NULL) {
    event_write(o->events, &event);
    return;
  }
  struct addresses addresses = {.envelope = buffer_span(&refusal->submission->envelope)};
  write_for_all(o, &event, &addresses, refusal->submission->recipients);
}
