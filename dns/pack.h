/*
 * pack: answers and MX sets as few bytes, for the cache, and back. Pure; mx_unpack takes memory for the hosts.
 * The bytes never leave the process: they are our own, so what does not unpack is a fault of ours.
 */
#ifndef DNS_PACK_H
#define DNS_PACK_H

#include "dns/codec.h"
#include "dns/mx.h"

#define PACK_MAX 16384 /* the largest of either */

void dns_answer_pack(const struct dns_answer *answer, uint16_t type, struct fmt *out);
void dns_answer_unpack(struct span packed, uint16_t type, struct dns_answer *answer);

void mx_set_pack(const struct mx_set *set, struct fmt *out);
/* False without memory; the set is then MX_TEMPORARY. Free it with mx_set_clear. */
must_check bool mx_set_unpack(struct span packed, struct mx_set *set);

#endif
