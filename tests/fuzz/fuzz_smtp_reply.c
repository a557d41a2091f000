/*
 * The first byte says how the stream behind it is cut. Properties: the replies found, and the error, do not depend on the cuts; everything
 * found lies within the input; reply_join gives one line without control bytes, within its room.
 */
#include "core/base/error.h"
#include "net/smtp/reply.h"

struct found {
  uint64_t hash;
  unsigned replies;
  size_t used;
  bool broken;
};

static void mix(struct found *found, uint64_t value) { found->hash = (found->hash ^ value) * 0x100000001b3u; }

static void check_reply(struct found *found, const struct smtp_reply *reply, struct span whole) {
  must(reply->code >= 200 && reply->code <= 599 && reply->enhanced_class <= 5 && reply->bytes.len <= REPLY_BYTES_MAX);
  must(reply->bytes.at == whole.at + found->used && reply->bytes.len <= whole.len - found->used);
  must(reply->enhanced_class == 0 || (reply->enhanced[0] <= 999 && reply->enhanced[1] <= 999));
  const uint8_t *end = reply->bytes.at + reply->bytes.len, *last = reply->bytes.at;
  struct span text;
  for (size_t cursor = 0; reply_line(reply, &cursor, &text); last = text.at + text.len) must(text.at >= last && text.at + text.len < end);

  uint8_t room[300];
  struct fmt out = fmt_over(room, reply->bytes.len % sizeof room);
  reply_join(reply, &out);
  must(!out.overflow && out.len <= out.cap);
  for (size_t i = 0; i < out.len; i++) must(room[i] >= 0x20 && room[i] != 0x7f);
  mix(found, reply->code);
  mix(found, reply->enhanced_class == 0 ? 0 : reply->enhanced[0] * 1000u + reply->enhanced[1]);
  mix(found, out.len);
}

static struct found read_stream(struct span whole, size_t step) {
  struct found found = {0};
  for (size_t given = step < whole.len ? step : whole.len;; given = given + step < whole.len ? given + step : whole.len) {
    struct span in = span_of(whole.at + found.used, given - found.used);
    struct smtp_reply reply;
    int got;
    while ((got = reply_parse(&reply, &in)) == 1) {
      check_reply(&found, &reply, span_first(whole, given));
      found.used += reply.bytes.len;
      found.replies++;
      must(in.at == whole.at + found.used && in.len == given - found.used);
    }
    must(got == 0 || got == E_PROTOCOL);
    found.broken = got < 0;
    if (found.broken || given == whole.len) return found;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  if (len == 0) return 0;
  struct span whole = span_of(bytes + 1, len - 1);
  struct found once = read_stream(whole, whole.len + 1), cut = read_stream(whole, bytes[0] + 1u);
  must(once.hash == cut.hash && once.replies == cut.replies && once.used == cut.used && once.broken == cut.broken);
  return 0;
}
