/*
 * Name servers for the fake io: they answer from zone lines ("name ttl TYPE rdata..."), each with a fault of its own. Included after fake_io.c.
 * Server n listens on port FAKE_PORT + n. Names that start with "servfail" or "silent" are answered so whatever the zone says; "late<n>"
 * at once, but the first time after 2.5 s.
 */
#include <arpa/inet.h>
#include <stdio.h>

#include "dns/codec.h"
#include "tests/unit/dns/packet.h"

#define FAKE_PORT 5300
#define FAKE_SERVERS 4

enum fault {
  FINE = 0,
  SILENT,
  CLOSED_PORT, /* the kernel says refused */
  SAYS_SERVFAIL,
  SAYS_REFUSED,
  TRUNCATES,      /* over UDP */
  WRONG_ID_FIRST, /* a spoofed packet comes before the true one */
  WRONG_NAME_FIRST,
  LOWERS_CASE, /* over UDP */
  HATES_EDNS,  /* FORMERR with the header alone */
  GARBAGE_FIRST,
  TCP_REFUSED, /* truncates, but does not listen on TCP */
  TCP_SILENT,
  TCP_TALKS_ON, /* sends more than the reply */
  TCP_WRONG_ID,
  TCP_CUTS, /* closes within the reply */
  NO_AD,
  SLOW,  /* 300 ms */
  TWICE, /* each reply comes once more */
};

#define FAKE_LATE 10000 /* names */

struct fake_servers {
  const char *const *zone;
  const char *insecure; /* answers about this name come without AD */
  enum fault fault[FAKE_SERVERS];
  unsigned asked[FAKE_SERVERS]; /* UDP queries */
  unsigned asked_tcp[FAKE_SERVERS];
  unsigned without_edns;
  unsigned asked_total;
  bool seen_upper; /* a letter in upper case */
  bool ports_used[FAKE_SOCKETS];
  unsigned each_us;     /* not 0: what a query takes of a server's time */
  unsigned backlog_max; /* ... and so many may wait for it; 0: any number */
  unsigned dropped;
  uint64_t busy_until_ns[FAKE_SERVERS];
  bool late[FAKE_LATE]; /* asked before */
};

static struct fake_servers servers;

struct fake_record {
  char name[260];
  unsigned ttl_s;
  char type[8];
  char first[260];
  char second[260];
};

static bool record_at(const char *line, struct fake_record *record) {
  record->first[0] = record->second[0] = '\0';
  return sscanf(line, "%259s %u %7s %259s %259s", record->name, &record->ttl_s, record->type, record->first, record->second) >= 3;
}

static unsigned type_number(const char *type) {
  if (strcmp(type, "A") == 0) return 1;
  if (strcmp(type, "AAAA") == 0) return 28;
  if (strcmp(type, "MX") == 0) return 15;
  if (strcmp(type, "TLSA") == 0) return 52;
  if (strcmp(type, "TXT") == 0) return 16;
  return strcmp(type, "CNAME") == 0 ? 5 : 0;
}

/* "3:1:1:32": usage, selector, matching, and how many bytes (of ones) follow. */
static void put_tlsa(struct fmt *out, const struct fake_record *record) {
  unsigned usage, selector, matching, len;
  must(sscanf(record->first, "%u:%u:%u:%u", &usage, &selector, &matching, &len) == 4);
  uint8_t bytes[3 + 256] = {(uint8_t)usage, (uint8_t)selector, (uint8_t)matching};
  must(len <= 256);
  memset(bytes + 3, 1, len);
  packet_bytes(out, record->name, 52, record->ttl_s, bytes, 3 + len);
}

/* Two strings. */
static void put_txt(struct fmt *out, const struct fake_record *record) {
  size_t start = packet_record(out, PACKET_ANSWER, record->name, 16, record->ttl_s);
  fmt_char(out, (char)strlen(record->first)), fmt_text(out, record->first);
  fmt_char(out, (char)strlen(record->second)), fmt_text(out, record->second);
  packet_end(out, start);
}

static void put_record(struct fmt *out, const struct fake_record *record) {
  uint8_t bytes[16];
  switch (type_number(record->type)) {
  case 1: must(inet_pton(AF_INET, record->first, bytes) == 1), packet_bytes(out, record->name, 1, record->ttl_s, bytes, 4); break;
  case 28: must(inet_pton(AF_INET6, record->first, bytes) == 1), packet_bytes(out, record->name, 28, record->ttl_s, bytes, 16); break;
  case 15: packet_mx(out, record->name, record->ttl_s, (unsigned)atoi(record->first), strcmp(record->second, ".") == 0 ? "" : record->second); break;
  case 5: packet_named(out, PACKET_ANSWER, record->name, 5, record->ttl_s, record->first); break;
  case 52: put_tlsa(out, record); break;
  case 16: put_txt(out, record); break;
  default: must(false);
  }
}

/* Puts the records of that name and type; says whether the name exists, and where an alias of it leads. */
static bool put_matching(struct fmt *out, const char *name, unsigned type, unsigned *put, char *alias) {
  bool exists = false;
  struct fake_record record;
  for (const char *const *line = servers.zone; *line != NULL; line++) {
    if (!record_at(*line, &record) || strcasecmp(record.name, name) != 0) continue;
    exists = true;
    unsigned is = type_number(record.type);
    if (is != type && is != 5) continue;
    put_record(out, &record);
    if (is == 5 && type != 5) {
      strcpy(alias, record.first);
    } else {
      ++*put;
    }
  }
  return exists;
}

static void put_answer(struct fmt *out, const char *name, unsigned type) {
  char at[260], alias[260];
  unsigned put = 0;
  bool exists = true;
  snprintf(at, sizeof at, "%s", name);
  if (servers.insecure != NULL && strcmp(servers.insecure, name) == 0) out->at[3] &= (uint8_t)~PACKET_AD;
  for (unsigned steps = 0; steps < 12; steps++) {
    alias[0] = '\0';
    exists = put_matching(out, at, type, &put, alias);
    if (alias[0] == '\0') break;
    strcpy(at, alias);
    if (strncmp(at, "servfail", 8) == 0) {
      out->at[3] |= DNS_SERVFAIL;
      return;
    }
  }
  if (!exists) out->at[3] |= DNS_NXDOMAIN;
  if (put == 0) packet_soa(out, "zone.invalid", 600, 60);
}

static void read_question(struct span query, char *name, unsigned *type) {
  size_t at = 12, len = 0;
  while (query.at[at] != 0) {
    if (len > 0) name[len++] = '.';
    memcpy(name + len, query.at + at + 1, query.at[at]);
    len += query.at[at];
    at += 1u + query.at[at];
  }
  name[len] = '\0';
  *type = (unsigned)(query.at[at + 1] << 8 | query.at[at + 2]);
  for (size_t i = 0; i < len; i++) servers.seen_upper |= name[i] >= 'A' && name[i] <= 'Z';
}

static void lower(char *name) {
  for (; *name != '\0'; name++) *name = (char)ascii_lower((uint8_t)*name);
}

static void write_reply(struct fmt *out, struct span query, bool datagram, enum fault fault) {
  char name[260], plain[260];
  unsigned type;
  unsigned flags = PACKET_QR | PACKET_RD | PACKET_RA | (fault == NO_AD ? 0 : PACKET_AD);
  read_question(query, name, &type);
  strcpy(plain, name);
  lower(plain);
  if (datagram && fault == LOWERS_CASE) lower(name);
  bool cut = datagram && (fault == TRUNCATES || (fault >= TCP_REFUSED && fault <= TCP_CUTS));
  packet_begin(out, (uint16_t)(query.at[0] << 8 | query.at[1]), flags | (cut ? PACKET_TC : 0));
  if (fault == HATES_EDNS && query.at[11] == 1) {
    out->at[3] |= DNS_FORMERR;
    return;
  }
  packet_question(out, name, type);
  if (cut) return;
  if (fault == SAYS_SERVFAIL || strncmp(plain, "servfail", 8) == 0) {
    out->at[3] |= DNS_SERVFAIL;
  } else if (fault == SAYS_REFUSED) {
    out->at[3] |= DNS_REFUSED;
  } else {
    put_answer(out, plain, type);
  }
}

static void reply_over_tcp(struct io *io, io_socket socket, struct span reply, enum fault fault) {
  uint8_t framed[65537] = {(uint8_t)(reply.len >> 8), (uint8_t)reply.len};
  memcpy(framed + 2, reply.at, reply.len);
  if (fault == TCP_SILENT) return;
  if (fault == TCP_WRONG_ID) framed[2] ^= 1;
  fake_arrive(io, socket, 1, span_of(framed, 1), E_OK); /* cut in the worst places */
  fake_arrive(io, socket, 2, span_of(framed + 1, 5), E_OK);
  if (fault == TCP_CUTS) {
    fake_arrive(io, socket, 3, (struct span){NULL, 0}, E_OK);
  } else {
    fake_arrive(io, socket, 3, span_of(framed + 6, reply.len - 4 + (fault == TCP_TALKS_ON ? 5000 : 0)), E_OK);
  }
}

static void spoof(struct io *io, io_socket socket, struct span reply, enum fault fault) {
  uint8_t packet[65535];
  memcpy(packet, reply.at, reply.len);
  switch (fault) {
  case WRONG_ID_FIRST: packet[1] ^= 1; break;
  case WRONG_NAME_FIRST: packet[13] ^= 1; break;
  case GARBAGE_FIRST: memset(packet + 12, 0xff, reply.len - 12); break;
  default: return;
  }
  fake_arrive(io, socket, 0, span_of(packet, reply.len), E_OK);
}

/* When the server will have come to it; 0: never, there is no room for it. */
static uint64_t served_at_ns(struct io *io, unsigned index) {
  uint64_t *busy_ns = &servers.busy_until_ns[index], each_ns = servers.each_us * 1000ull;
  if (*busy_ns < io->now_ns) *busy_ns = io->now_ns;
  if (servers.backlog_max > 0 && *busy_ns - io->now_ns > servers.backlog_max * each_ns) {
    servers.dropped++;
    return 0;
  }
  *busy_ns += each_ns;
  return *busy_ns;
}

static unsigned delay_ms(enum fault fault, const char *name) {
  if (fault == SLOW) return 300;
  if (strncmp(name, "late", 4) != 0) return 1;
  unsigned number = (unsigned)atoi(name + 4);
  must(number < FAKE_LATE);
  if (servers.late[number]) return 1;
  servers.late[number] = true;
  return 2500;
}

static int serve(struct io *io, io_socket socket, bool datagram, const struct netaddr *server, struct span bytes) {
  static uint8_t room[65535];
  unsigned index = server->port - FAKE_PORT;
  enum fault fault = servers.fault[index];
  if (bytes.at == NULL) return fault == TCP_REFUSED ? E_REFUSED : E_OK;
  struct span query = datagram ? bytes : span_skip(bytes, 2);
  char name[260];
  unsigned type;
  must(datagram || (size_t)(bytes.at[0] << 8 | bytes.at[1]) == query.len);
  read_question(query, name, &type);
  if (datagram) {
    servers.asked[index]++;
    servers.asked_total++;
  } else {
    servers.asked_tcp[index]++;
  }
  if (query.at[11] == 0) servers.without_edns++;
  lower(name);
  if (fault == SILENT || strncmp(name, "silent", 6) == 0) return E_OK;
  if (fault == CLOSED_PORT) {
    fake_arrive(io, socket, 0, (struct span){NULL, 0}, E_REFUSED);
    return E_OK;
  }
  struct fmt out = fmt_over(room, sizeof room);
  write_reply(&out, query, datagram, fault);
  must(!out.overflow);
  if (!datagram) {
    reply_over_tcp(io, socket, fmt_span(&out), fault);
    return E_OK;
  }
  uint64_t served_ns = served_at_ns(io, index);
  if (served_ns == 0) return E_OK;
  spoof(io, socket, fmt_span(&out), fault);
  fake_arrive(io, socket, delay_ms(fault, name) + (served_ns - io->now_ns) / 1000000, fmt_span(&out), E_OK);
  if (fault == TWICE) fake_arrive(io, socket, 2 + (served_ns - io->now_ns) / 1000000, fmt_span(&out), E_OK);
  return E_OK;
}
