/* Any bytes are refused or decode to a bounded answer; the question found is the one in the packet; a query decodes to what was encoded. */
#include "core/base/error.h"
#include "core/base/must.h"
#include "dns/codec.h"
#include "dns/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void name_is_sane(const struct dns_name *name) {
  must(name->len <= 253 && strlen(name->text) == name->len);
  for (size_t i = 0; i < name->len; i++)
    must(name->text[i] == '.' || (dns_name_byte((uint8_t)name->text[i]) && !(name->text[i] >= 'A' && name->text[i] <= 'Z')));
}

static void answer_is_sane(const struct dns_answer *answer, uint16_t type) {
  static struct dns_answer back;
  static uint8_t room[PACK_MAX];
  struct fmt packed = fmt_over(room, sizeof room);
  must(answer->count <= DNS_ANSWERS_MAX && answer->count <= answer->total && answer->ttl_s <= DNS_TTL_MAX_S);
  must(answer->outcome >= DNS_FOUND && answer->outcome <= DNS_FAILED);
  must((answer->total > 0) == (answer->outcome == DNS_FOUND));
  name_is_sane(&answer->canonical);
  for (unsigned i = 0; i < answer->count; i++) {
    if (type == DNS_TLSA || type == DNS_TXT) {
      must(answer->bytes.piece[i].at + answer->bytes.piece[i].len <= DNS_BYTES_MAX);
      continue;
    }
    if (type != DNS_MX) {
      must(answer->address[i].family == (type == DNS_A ? 4 : 6) && answer->address[i].port == 0);
      continue;
    }
    name_is_sane(&answer->mx[i].target);
    must(i == 0 || answer->mx[i].preference >= answer->mx[i - 1].preference);
  }
  dns_answer_pack(answer, type, &packed);
  must(!packed.overflow);
  dns_answer_unpack(fmt_span(&packed), type, &back);
  must(back.outcome == answer->outcome && back.count == answer->count && back.total == answer->total && back.cut == answer->cut);
  for (unsigned i = 0; (type == DNS_TLSA || type == DNS_TXT) && i < back.count; i++)
    must(span_equal(dns_answer_bytes(&back, i), dns_answer_bytes(answer, i)));
  for (unsigned i = 0; type == DNS_MX && i < back.count; i++) must(strcmp(back.mx[i].target.text, answer->mx[i].target.text) == 0);
}

/* The labels at the start of the question section, if none of them is a pointer, spell this name. */
static void packet_has_name(struct span packet, const struct dns_name *name) {
  size_t at = 12, read = 0;
  while (packet.at[at] != 0) {
    if (packet.at[at] >= 192) return;
    if (read > 0) must(name->text[read++] == '.');
    must(memcmp(name->text + read, packet.at + at + 1, packet.at[at]) == 0);
    read += packet.at[at];
    at += 1u + packet.at[at];
  }
  must(read == name->len);
}

static void query_decodes_to_itself(const struct dns_question *question, uint16_t id) {
  static struct dns_reply reply;
  uint8_t room[DNS_QUERY_MAX];
  struct fmt query = fmt_over(room, sizeof room);
  must(dns_encode(question, id, id & 1, &query) == E_OK);
  must(dns_decode(fmt_span(&query), &reply) == E_OK);
  must(reply.id == id && !reply.response && reply.asked && dns_match(&reply, question) == DNS_NO_MATCH);
  room[2] |= 0x80;
  must(dns_decode(fmt_span(&query), &reply) == E_OK);
  must(dns_match(&reply, question) == DNS_MATCH);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  static struct dns_reply reply;
  uint8_t mix[32] = {0};
  struct dns_name lower;
  if (dns_decode(span_of(bytes, len), &reply) != E_OK) return 0;
  if (!reply.asked) {
    must(reply.answer.outcome == DNS_NONE);
    return 0;
  }
  packet_has_name(span_of(bytes, len), &reply.name);
  if (!reply.truncated) answer_is_sane(&reply.answer, reply.type);
  for (size_t i = 0; i <= reply.name.len; i++) lower.text[i] = (char)ascii_lower((uint8_t)reply.name.text[i]);
  lower.len = reply.name.len;
  memcpy(mix, bytes, len < sizeof mix ? len : sizeof mix);
  struct dns_question question = {reply.type, dns_name_span(&lower), mix};
  must((dns_match(&reply, &question) != DNS_NO_MATCH) == reply.response);
  question.type ^= 1;
  must(dns_match(&reply, &question) == DNS_NO_MATCH);
  question.type ^= 1;
  if (question.type != 0 && dns_name_check(question.name) == E_OK) query_decodes_to_itself(&question, reply.id);
  return 0;
}
