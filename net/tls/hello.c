#include "net/tls/hello.h"

#include "core/base/error.h"

#define RECORD_HEADER 5
#define MESSAGE_HEADER 4
#define TYPE_HANDSHAKE 22
#define CLIENT_HELLO 1

/* Extensions, RFC 8446 section 4.2. */
enum { SERVER_NAME = 0, SUPPORTED_GROUPS = 10, SIGNATURE_ALGORITHMS = 13, SUPPORTED_VERSIONS = 43 };

static unsigned get16(const uint8_t *at) { return (unsigned)at[0] << 8 | at[1]; }
static uint32_t get24(const uint8_t *at) { return (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2]; }

/* ---- records ---- */

/* The first three bytes of a record, or fewer: is it one that may carry a ClientHello? */
static enum hello_progress look_at_header(struct span record, bool first) {
  bool tls = record.at[0] == TYPE_HANDSHAKE && (record.len < 2 || record.at[1] == 3);
  if (tls) return HELLO_MORE;
  if (!first || record.at[0] == TYPE_HANDSHAKE || (record.at[0] >= 20 && record.at[0] <= 24)) return HELLO_BROKEN;
  if (record.at[0] < 0x80) return HELLO_NO_TLS;
  if (record.len < 3) return HELLO_MORE;
  return record.at[2] == CLIENT_HELLO ? HELLO_OLD : HELLO_NO_TLS; /* RFC 6101 appendix E: a length with the top bit, then the message */
}

/* A byte of the message's header that is in this record. */
static enum hello_progress look_at_message(struct hello_reader *reader, struct span piece, uint8_t head[MESSAGE_HEADER]) {
  for (size_t i = 0; i < piece.len && reader->_body + i < MESSAGE_HEADER; i++) head[reader->_body + i] = piece.at[i];
  if (reader->_body == 0 && head[0] != CLIENT_HELLO) return HELLO_BROKEN;
  reader->_body += (uint32_t)piece.len;
  return HELLO_MORE;
}

/* The message's own header may be cut by records too: gathered from the start, at most four records. */
static void gather_head(struct span all, uint32_t end, uint8_t head[MESSAGE_HEADER]) {
  size_t have = 0;
  for (uint32_t at = 0; at < end && have < MESSAGE_HEADER;) {
    unsigned len = get16(all.at + at + 3);
    for (unsigned i = 0; i < len && have < MESSAGE_HEADER; i++) head[have++] = all.at[at + RECORD_HEADER + i];
    at += RECORD_HEADER + len;
  }
}

static enum hello_progress take_record(struct hello_reader *reader, struct span all, unsigned len) {
  uint8_t head[MESSAGE_HEADER] = {0};
  gather_head(all, reader->_at, head);
  enum hello_progress progress = look_at_message(reader, span_of(all.at + reader->_at + RECORD_HEADER, len), head);
  if (progress != HELLO_MORE) return progress;
  reader->_at += RECORD_HEADER + len;
  reader->_records++;
  if (reader->_wanted == 0 && reader->_body >= MESSAGE_HEADER) reader->_wanted = get24(head + 1) + MESSAGE_HEADER;
  if (reader->_wanted > HELLO_MAX) return HELLO_TOO_LONG;
  if (reader->_wanted == 0 || reader->_body < reader->_wanted) return reader->_records < HELLO_RECORDS ? HELLO_MORE : HELLO_BROKEN;
  return reader->_body == reader->_wanted ? HELLO_COMPLETE : HELLO_BROKEN; /* nothing may follow it before the server has answered */
}

enum hello_progress hello_read(struct hello_reader *reader, struct span all) {
  for (;;) {
    struct span rest = span_skip(all, reader->_at);
    if (rest.len == 0) return HELLO_MORE;
    enum hello_progress progress = look_at_header(rest, reader->_at == 0);
    if (progress != HELLO_MORE || rest.len < RECORD_HEADER) return progress;
    unsigned len = get16(rest.at + 3);
    if (len == 0 || len > 16384) return HELLO_BROKEN;
    if (rest.len < RECORD_HEADER + len) return HELLO_MORE;
    progress = take_record(reader, all, len);
    if (progress != HELLO_MORE) return progress;
  }
}

/* ---- the message ---- */

/* A cursor with a sticky error: past the end everything is empty. */
struct cursor {
  struct span left;
  bool bad;
};

static struct span take(struct cursor *c, size_t n) {
  if (c->bad || c->left.len < n) {
    c->bad = true;
    return (struct span){NULL, 0};
  }
  struct span taken = span_first(c->left, n);
  c->left = span_skip(c->left, n);
  return taken;
}
static unsigned take8(struct cursor *c) {
  struct span s = take(c, 1);
  return s.len == 1 ? s.at[0] : 0;
}
static unsigned take16(struct cursor *c) {
  struct span s = take(c, 2);
  return s.len == 2 ? get16(s.at) : 0;
}
static struct span take_vector8(struct cursor *c) { return take(c, take8(c)); }
static struct span take_vector16(struct cursor *c) { return take(c, take16(c)); }
static struct cursor over(struct span s) { return (struct cursor){s, false}; }

static bool is_host(struct span name) {
  if (name.len == 0 || name.len > HELLO_HOST_MAX || name.at[0] == '.') return false;
  for (size_t i = 0; i < name.len; i++) {
    uint8_t c = name.at[i];
    if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-' && c != '_' && c != '.') return false;
    if (c == '.' && i > 0 && name.at[i - 1] == '.') return false;
  }
  return true;
}

/* RFC 6066 section 3: a list of names of which only kind 0, a host, was ever defined. */
static bool server_name(struct span content, struct hello *hello) {
  struct cursor ext = over(content);
  struct cursor list = over(take_vector16(&ext));
  while (list.left.len > 0 && !list.bad) {
    unsigned kind = take8(&list);
    struct span name = take_vector16(&list);
    if (kind == 0 && hello->host.len == 0 && is_host(name)) hello->host = name;
  }
  return !ext.bad && !list.bad && ext.left.len == 0;
}

static bool supported_versions(struct span content, struct hello *hello) {
  struct cursor ext = over(content);
  struct cursor list = over(take_vector8(&ext));
  hello->tls12 = hello->tls13 = false; /* this list counts, not the version in front */
  while (list.left.len > 0 && !list.bad) {
    unsigned version = take16(&list);
    hello->tls12 |= version == 0x0303;
    hello->tls13 |= version == 0x0304;
  }
  return !ext.bad && !list.bad && ext.left.len == 0;
}

static bool signature_algorithms(struct span content, struct hello *hello) {
  struct cursor ext = over(content);
  struct cursor list = over(take_vector16(&ext));
  while (list.left.len > 0 && !list.bad) {
    unsigned scheme = take16(&list);
    hello->p256 |= scheme == 0x0403;
    hello->p384 |= scheme == 0x0503;
    hello->rsa_pkcs1 |= scheme == 0x0401 || scheme == 0x0501 || scheme == 0x0601;
    hello->rsa_pss |= scheme == 0x0804 || scheme == 0x0805 || scheme == 0x0806;
  }
  return !ext.bad && !list.bad && ext.left.len == 0;
}

static bool supported_groups(struct span content, struct hello *hello) {
  struct cursor ext = over(content);
  struct cursor list = over(take_vector16(&ext));
  hello->curve_p256 = hello->curve_p384 = false;
  while (list.left.len > 0 && !list.bad) {
    unsigned group = take16(&list);
    hello->curve_p256 |= group == 23;
    hello->curve_p384 |= group == 24;
  }
  return !ext.bad && !list.bad && ext.left.len == 0;
}

static bool extension(unsigned type, struct span content, struct hello *hello) {
  switch (type) {
  case SERVER_NAME: return server_name(content, hello);
  case SUPPORTED_GROUPS: return supported_groups(content, hello);
  case SIGNATURE_ALGORITHMS: return signature_algorithms(content, hello);
  case SUPPORTED_VERSIONS: return supported_versions(content, hello);
  default: return true;
  }
}

static bool extensions(struct cursor *c, struct hello *hello) {
  uint64_t seen = 0;
  while (c->left.len > 0) {
    unsigned type = take16(c);
    struct span content = take_vector16(c);
    uint64_t bit = type < 64 ? (uint64_t)1 << type : 0; /* each at most once; which of the others are twice is nothing to us */
    if (c->bad || (seen & bit) != 0 || !extension(type, content, hello)) return false;
    seen |= bit;
  }
  return true;
}

/* ECDHE with AEAD: RFC 5289 and 7905. */
static void suites(struct span list, struct hello *hello) {
  for (size_t i = 0; i + 1 < list.len; i += 2) {
    unsigned suite = get16(list.at + i);
    hello->suites_ecdsa |= suite == 0xc02b || suite == 0xc02c || suite == 0xcca9;
    hello->suites_rsa |= suite == 0xc02f || suite == 0xc030 || suite == 0xcca8;
  }
}

/* The message in one piece: where it is, or put together in `room`. */
static struct span message_of(struct span all, uint8_t room[HELLO_MAX]) {
  size_t len = 0;
  unsigned first = get16(all.at + 3);
  if (first >= MESSAGE_HEADER && get24(all.at + RECORD_HEADER + 1) + MESSAGE_HEADER == first) return span_of(all.at + RECORD_HEADER, first);
  while (all.len >= RECORD_HEADER && all.at[0] == TYPE_HANDSHAKE) {
    unsigned piece = get16(all.at + 3);
    if (all.len - RECORD_HEADER < piece || HELLO_MAX - len < piece) break;
    memcpy(room + len, all.at + RECORD_HEADER, piece);
    len += piece;
    all = span_skip(all, RECORD_HEADER + piece);
    if (len >= MESSAGE_HEADER && len >= get24(room + 1) + MESSAGE_HEADER) break;
  }
  return span_of(room, len);
}

int hello_parse(struct span all, uint8_t room[HELLO_MAX], struct hello *hello) {
  *hello = (struct hello){.curve_p256 = true, .curve_p384 = true}; /* without a list any curve will do: RFC 8422 section 4 */
  struct span message = message_of(all, room);
  struct cursor c = over(message);
  take(&c, MESSAGE_HEADER);
  unsigned version = take16(&c);
  take(&c, 32); /* random */
  struct span session = take_vector8(&c);
  struct span suite_list = take_vector16(&c);
  struct span compressions = take_vector8(&c);
  if (c.bad || version < 0x0300 || version >> 8 != 3 || session.len > 32 || suite_list.len < 2 || suite_list.len % 2 != 0 || compressions.len == 0)
    return E_SYNTAX;
  hello->tls12 = version >= 0x0303;
  suites(suite_list, hello);
  if (c.left.len > 0) {
    struct cursor list = over(take_vector16(&c));
    if (c.bad || c.left.len > 0 || !extensions(&list, hello)) return E_SYNTAX;
  }
  return E_OK;
}

bool hello_takes(const struct hello *hello, enum hello_key key, bool tls13) {
  bool modern = tls13 && hello->tls13;
  if (key == HELLO_KEY_RSA) return modern ? hello->rsa_pss : hello->tls12 && hello->suites_rsa && (hello->rsa_pkcs1 || hello->rsa_pss);
  bool signature = key == HELLO_KEY_P256 ? hello->p256 : hello->p384, curve = key == HELLO_KEY_P256 ? hello->curve_p256 : hello->curve_p384;
  return signature && (modern || (hello->tls12 && hello->suites_ecdsa && curve));
}
