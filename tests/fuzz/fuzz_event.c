/*
 * Whatever bytes stand in the strings of an event, and however many recipients it has: one line of strict JSON that fits EVENT_SIZE_MAX, or, with
 * many recipients, an overflow that leaves the buffer as it was; and a buffer one byte too small is an overflow. The first byte says what kind of
 * event, the second where the rest is cut.
 */
#include "core/event/event.h"
#include "tests/lib/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#define MORE_MAX 64

static struct span next_piece(struct span *in, size_t piece) {
  struct span head = span_first(*in, piece);
  *in = span_skip(*in, head.len);
  return head;
}

static const char *next_text(char *room, struct span *in, size_t piece) {
  struct span head = next_piece(in, piece < EVENT_STRING_MAX ? piece : EVENT_STRING_MAX);
  if (head.len == 0) return NULL;
  memcpy(room, head.at, head.len);
  room[head.len] = '\0';
  return room;
}

static void check(const struct event *event) {
  static uint8_t room[EVENT_SIZE_MAX];
  struct fmt out = fmt_over(room, sizeof room);
  fmt_text(&out, "x");
  event_format(event, &out);
  must(!out.overflow || event->more_recipients_count > 0);
  if (out.overflow) {
    must(out.len == 1);
    return;
  }
  must(room[out.len - 1] == '\n' && memchr(room, '\n', out.len - 1) == NULL);
  must(json_is_object(span_of(room + 1, out.len - 2)));
  struct fmt tight = fmt_over(room, out.len - 2);
  event_format(event, &tight);
  must(tight.overflow && tight.len == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  if (len < 2) return 0;
  char texts[3][EVENT_STRING_MAX + 1];
  struct span in = span_of(bytes + 2, len - 2), more[MORE_MAX];
  size_t piece = bytes[1] < 128 ? bytes[1] : in.len / 12 + 1; /* short pieces, or all fields about equally long */
  struct event event = {.type = (enum event_type)(1 + bytes[0] % EVENT_ADMIN_BOUNCE),
                        .id = len,
                        .code = bytes[0],
                        .enhanced = {bytes[0] & 7, bytes[1], 65535},
                        .timestamp_ms = UINT64_MAX - bytes[0],
                        .created_ms = bytes[1],
                        .size = UINT64_MAX,
                        .num_attempts = UINT32_MAX,
                        .session_id = bytes[0],
                        .maybe_duplicate = (bytes[0] & 8) != 0,
                        .more_recipients = more,
                        .peer = {.family = (bytes[0] & 16) != 0 ? 4 : 6, .bytes = {255, 255, 255, 255}},
                        .source = {.family = (bytes[0] & 32) != 0 ? 4 : 0}};
  struct span *fields[] = {&event.sender, &event.recipient, &event.content, &event.queue,
                           &event.site,   &event.provider,  &event.command, &event.peer_name};
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) *fields[i] = next_piece(&in, piece);
  event.dns_list = next_piece(&in, piece < 253 ? piece : 253);
  event.dns_list_answer = event.peer;
  event.verdict = next_text(texts[0], &in, piece);
  event.category = next_text(texts[1], &in, piece);
  event.rule = next_text(texts[2], &in, piece);
  check(&event);
  while (event.more_recipients_count < MORE_MAX && in.len > 0) more[event.more_recipients_count++] = next_piece(&in, piece + 1);
  if (event.more_recipients_count > 0) check(&event);
  return 0;
}
