#include "dns/dane.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "dns/lookup.h"

enum step { ASK_ALIAS, ASK_CANONICAL, ASK_HOST };

#define PREFIX_ROOM 16 /* "_65535._tcp." */

__attribute__((format(printf, 3, 4))) static void end(struct dane *dane, enum dane_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(dane->reason, sizeof dane->reason, format, arguments);
  va_end(arguments);
  dane->status = status;
}

static const struct dns_name *candidate(const struct dane *dane) { return dane->_step == ASK_CANONICAL ? &dane->_canonical : &dane->_host; }

static struct span tlsa_name(const struct dane *dane, char room[PREFIX_ROOM + DNS_NAME_MAX + 1]) {
  int len = snprintf(room, PREFIX_ROOM + DNS_NAME_MAX + 1, "_%u._tcp.%s", dane->_port, candidate(dane)->text);
  return span_of(room, (size_t)len);
}

/* On to the step; a name that TLSA records cannot have (it would be too long) has none. */
static void go_to(struct dane *dane, enum step step) {
  char room[PREFIX_ROOM + DNS_NAME_MAX + 1];
  dane->_step = (uint8_t)step;
  if (step == ASK_ALIAS || dns_name_check(tlsa_name(dane, room)) == E_OK) return;
  if (step == ASK_CANONICAL) {
    go_to(dane, ASK_HOST);
  } else {
    end(dane, DANE_NONE, "no TLSA record can have such a name");
  }
}

void dane_begin(struct dane *dane, const struct mx_set *set, const struct mx_host *host, struct span domain, uint16_t port) {
  *dane = (struct dane){.ttl_s = set->ttl_s, ._port = port};
  if (!set->mx_secure) {
    end(dane, DANE_NONE, "the answer about MX is not secure");
  } else if (dns_name_parse(&dane->_host, set->implicit ? domain : span_of(host->name, host->name_len)) != E_OK) {
    end(dane, DANE_NONE, "the host has no name");
  } else if (dns_name_parse(&dane->_canonical, span_of(host->canonical, host->canonical_len)) == E_OK) {
    go_to(dane, host->secure ? ASK_CANONICAL : ASK_ALIAS);
  } else if (host->secure) {
    go_to(dane, ASK_HOST);
  } else {
    end(dane, DANE_NONE, "the host's addresses are not secure");
  }
}

void dane_needs(const struct dane *dane, struct dns_key *key) {
  char room[PREFIX_ROOM + DNS_NAME_MAX + 1];
  must(dane->status == DANE_PENDING);
  if (dane->_step == ASK_ALIAS) {
    dns_key_make(key, DNS_CNAME, dns_name_span(&dane->_host));
  } else {
    dns_key_make(key, DNS_TLSA, tlsa_name(dane, room));
  }
}

bool dane_is_usable(const struct dane_record *record) {
  if (record->usage != 2 && record->usage != 3) return false;
  if (record->selector > 1) return false;
  if (record->matching == 0) return record->association.len > 0;
  return (record->matching == 1 && record->association.len == 32) || (record->matching == 2 && record->association.len == 64);
}

static void use_records(struct dane *dane, const struct dns_answer *answer) {
  for (unsigned i = 0; i < answer->count; i++) {
    struct span bytes = dns_answer_bytes(answer, i);
    if (bytes.len < 3) continue;
    struct dane_record record = {bytes.at[0], bytes.at[1], bytes.at[2], span_skip(bytes, 3)};
    if (dane_is_usable(&record)) dane->record[dane->count++] = record;
  }
  dane->base = *candidate(dane);
  if (dane->count > 0) {
    end(dane, DANE_USE, "%u usable TLSA records", dane->count);
  } else if (answer->cut) { /* among those we had no room for may be what would have refused the host */
    end(dane, DANE_DEFER, "too many or too large TLSA records");
  } else {
    end(dane, DANE_UNUSABLE, "no usable TLSA record among %u", answer->total);
  }
}

static void no_records(struct dane *dane, const struct dns_answer *answer) {
  if (dane->_step == ASK_CANONICAL) {
    go_to(dane, ASK_HOST);
  } else {
    end(dane, DANE_NONE, answer->outcome == DNS_FOUND ? "the TLSA records are not secure" : "no TLSA records");
  }
}

void dane_take(struct dane *dane, const struct dns_answer *answer) {
  bool is_there = answer->outcome == DNS_FOUND && answer->secure;
  must(dane->status == DANE_PENDING);
  if (answer->outcome == DNS_FAILED) {
    const char *what = dns_type_text(dane->_step == ASK_ALIAS ? DNS_CNAME : DNS_TLSA);
    dane->ttl_s = LOOKUP_FAILURE_TTL_S;
    end(dane, DANE_DEFER, "name server failure (%s) for %s of %.40s", answer->silent ? "no reply" : dns_rcode_text(answer->rcode), what,
        candidate(dane)->text);
    return;
  }
  if (answer->ttl_s < dane->ttl_s) dane->ttl_s = answer->ttl_s;
  if (dane->_step != ASK_ALIAS) {
    is_there ? use_records(dane, answer) : no_records(dane, answer);
  } else if (is_there) {
    go_to(dane, ASK_HOST);
  } else {
    end(dane, DANE_NONE, "the host's addresses are not secure");
  }
}

struct dane *dane_copy(const struct dane *dane) {
  size_t size = 0;
  for (unsigned i = 0; i < dane->count; i++) size += dane->record[i].association.len;
  struct dane *copy = malloc(sizeof *copy + size);
  if (copy == NULL) return NULL;
  uint8_t *at = (uint8_t *)(copy + 1);
  *copy = *dane;
  for (unsigned i = 0; i < copy->count; i++) {
    struct span *association = &copy->record[i].association;
    memcpy(at, association->at, association->len);
    association->at = at;
    at += association->len;
  }
  return copy;
}

const char *dane_status_text(enum dane_status status) {
  static const char *const text[] = {"pending", "none", "use", "unusable", "defer"};
  return (unsigned)status < sizeof text / sizeof *text ? text[status] : "pending";
}
