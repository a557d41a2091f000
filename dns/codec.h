/*
 * codec: DNS questions to packets, packets to answers (RFC 1035, 6891), with ldns reading and writing the wire. Pure; ldns allocates inside, all of
 * it is freed before the functions return. Work and results are bounded whatever the packet holds.
 *
 *   dns_encode(&question, id, true, &out);
 *   if (dns_decode(packet, &reply) == E_OK && reply.id == id && dns_match(&reply, &question) == DNS_MATCH) use(&reply.answer);
 */
#ifndef DNS_CODEC_H
#define DNS_CODEC_H

#include "core/base/fmt.h"
#include "core/base/must.h"
#include "core/base/netaddr.h"
#include "dns/name.h"

enum dns_type { DNS_A = 1, DNS_NS = 2, DNS_CNAME = 5, DNS_SOA = 6, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_OPT = 41, DNS_TLSA = 52 };
enum dns_rcode { DNS_NOERROR = 0, DNS_FORMERR = 1, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_NOTIMP = 4, DNS_REFUSED = 5 };

#define DNS_QUERY_MAX 320          /* the longest query: header, 255 bytes of name, type, class, OPT */
#define DNS_EDNS_SIZE 1232         /* fits into one IPv6 packet everywhere */
#define DNS_ANSWERS_MAX 32         /* kept; of MX records the best, of addresses the first */
#define DNS_PACKET_RECORDS_MAX 512 /* a packet with more is refused */
#define DNS_CHAIN_MAX 8            /* aliases followed */
#define DNS_BYTES_MAX 7680         /* of TLSA or TXT records, all of one answer */
#define DNS_TTL_MAX_S 0x7fffffffu  /* RFC 2181 8 */

enum dns_outcome {
  DNS_NONE = 0,
  DNS_FOUND,
  DNS_NO_DATA, /* the name is there, records of this type are not */
  DNS_NO_NAME, /* NXDOMAIN */
  DNS_FAILED,  /* the server cannot say: any other rcode, a referral, a loop of aliases; or no server replied */
};

struct dns_mx {
  uint16_t preference;
  struct dns_name target; /* lower case; empty: the root, "no mail here" (RFC 7505) */
};

struct dns_bytes { /* records that are bytes to us: TLSA as on the wire (RFC 6698 2.1), TXT with its strings joined */
  struct {
    uint16_t at, len;
  } piece[DNS_ANSWERS_MAX];
  uint8_t room[DNS_BYTES_MAX];
};

struct dns_answer {
  enum dns_outcome outcome;
  bool secure;               /* the AD bit: of the records and all aliases, or of the proof that there are none (RFC 4035 3.2.3) */
  bool cut;                  /* TLSA, TXT: not all of them had room */
  bool silent;               /* DNS_FAILED because no server said a word */
  uint16_t rcode;            /* of DNS_FAILED */
  uint32_t ttl_s;            /* the smallest of records and aliases; negative: RFC 2308 5, without a SOA 0 */
  unsigned total;            /* MX records there were, those we cannot use or do not keep included */
  unsigned count;            /* kept below; DNS_FOUND may come with 0 if none can be used */
  struct dns_name canonical; /* what the aliases lead to; empty if there were none */
  union {
    struct dns_mx mx[DNS_ANSWERS_MAX]; /* ordered by preference, then name */
    struct netaddr address[DNS_ANSWERS_MAX];
    struct dns_bytes bytes;
  };
};

/* One of `count` TLSA or TXT records; valid as long as the answer. */
static inline struct span dns_answer_bytes(const struct dns_answer *answer, unsigned i) {
  return span_of(answer->bytes.room + answer->bytes.piece[i].at, answer->bytes.piece[i].len);
}

struct dns_question {
  uint16_t type;
  struct span name;   /* lower case */
  const uint8_t *mix; /* 32 bytes of chance: which letters go out in upper case (a spoofer has to guess them); NULL: none */
};

struct dns_reply {
  uint16_t id;
  uint16_t rcode; /* with the upper bits of EDNS */
  bool response;  /* QR */
  bool truncated; /* TC: nothing behind the question was read */
  bool asked;     /* it has a question */
  uint16_t type;
  struct dns_name name; /* of the question, in the case it came in */
  struct dns_answer answer;
};

enum dns_match_result { DNS_NO_MATCH = 0, DNS_MATCH, DNS_MATCH_BUT_CASE };

/* A query with RD and AD set (RFC 6840 5.7: "tell me whether it is authentic"; DO would bring the signatures too, which we do not check), class IN. E_SYNTAX if the name is none or the type 0; E_FULL
 * without room. */
must_check int dns_encode(const struct dns_question *question, uint16_t id, bool edns, struct fmt *out);

/* E_SYNTAX: not a packet, or not one with at most one question of class IN; E_TOO_LONG: more records than we look at. */
must_check int dns_decode(struct span packet, struct dns_reply *reply);

/* Is it a response to this question? The id and the source are the caller's to check. */
enum dns_match_result dns_match(const struct dns_reply *reply, const struct dns_question *question);

/* "SERVFAIL" and so on. Never NULL. */
const char *dns_rcode_text(uint16_t rcode);
const char *dns_type_text(uint16_t type);

#endif
