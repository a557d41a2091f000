/*
 * token: the tokens of the resolver's operations: kind (8 bits), operation (4), slot (20), generation of the slot (32).
 */
#ifndef DNS_TOKEN_H
#define DNS_TOKEN_H

#include <stdint.h>

enum dns_operation { DNS_OP_NONE = 0, DNS_UDP_SEND, DNS_UDP_RECEIVE, DNS_UDP_CLOSE, DNS_TCP_CONNECT, DNS_TCP_SEND, DNS_TCP_RECEIVE, DNS_TCP_CLOSE };

static inline uint64_t dns_token(uint8_t kind, enum dns_operation operation, uint32_t slot, uint32_t generation) {
  return (uint64_t)kind << 56 | (uint64_t)operation << 52 | (uint64_t)(slot & 0xfffff) << 32 | generation;
}
static inline enum dns_operation dns_token_operation(uint64_t token) { return (enum dns_operation)(token >> 52 & 15); }
static inline uint32_t dns_token_slot(uint64_t token) { return (uint32_t)(token >> 32) & 0xfffff; }
static inline uint32_t dns_token_generation(uint64_t token) { return (uint32_t)token; }

#endif
