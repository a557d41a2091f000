/*
 * conf: the configuration as one C struct, read from YAML (libcyaml). DESIGN: the stable face.
 *
 * Read by the main thread before the shards start; immutable and shared afterwards. Reading validates, then fills in defaults: two steps, never
 * both in one. An unknown key, a wrong type or a value out of range is an error naming file, line, key and why.
 */
#ifndef CORE_CONF_CONF_H
#define CORE_CONF_CONF_H

#include "core/base/fmt.h"
#include "core/base/map.h"
#include "core/base/must.h"
#include "core/base/netaddr.h"

#define CONF_SPOOL_MIN (24ull << 20)              /* of spool.max_size, for each shard: three of the smallest segments */
#define CONF_SHARD_MEMORY_MIN ((uint64_t)4 << 20) /* of limits.memory */

struct dns_lists;

enum conf_durability { CONF_SYNC, CONF_LAZY, CONF_MEMORY };

enum conf_tls { CONF_TLS_NONE, CONF_TLS_STARTTLS, CONF_TLS_IMPLICIT };
enum conf_auth { CONF_AUTH_OFF, CONF_AUTH_OPTIONAL, CONF_AUTH_REQUIRED };
enum conf_clients { CONF_CLIENTS_UNASKED, CONF_CLIENTS_ASKED, CONF_CLIENTS_REQUIRED };

struct conf_listener {
  struct netaddr address; /* with the port */
  enum conf_tls tls;      /* default: none without certificates, else implicit on port 465 and starttls elsewhere */
  enum conf_auth auth;    /* default: off without users or TLS, else required on 465 and 587 and optional elsewhere */
  enum conf_clients client_certificates;
  bool auth_in_clear;         /* AUTH may be used without TLS */
  bool submission;            /* RFC 6409: what is missing in the header is added; default: on 465 and 587 */
  struct network *proxy_from; /* whose connections begin with a PROXY header; from elsewhere it is refused. Default: none */
  unsigned proxy_from_count;
  struct dns_lists *dns_lists; /* core/conf/dns_lists.h; NULL: none */
};

struct conf_certificate { /* files, PEM: the chain, its own certificate first, and the key */
  char *cert, *key;
};

/* What one client (an IPv4 address or an IPv6 /64) may do. 0: no limit. */
struct conf_clients_limits {
  uint32_t sessions;                                  /* clients.sessions, default 100: at once */
  uint32_t connections, messages, recipients, errors; /* clients.*, default 0, but errors 60: a minute */
};

/* How safe connections that go out have to be: from lax to strict. */
enum conf_security {
  CONF_SECURITY_NONE,
  CONF_SECURITY_OPPORTUNISTIC, /* TLS where it works, whatever the certificate; else in the clear */
  CONF_SECURITY_REQUIRE,       /* TLS, whatever the certificate, or not at all */
  CONF_SECURITY_VERIFY,        /* ... and with a certificate by an authority for the host's name */
  CONF_SECURITY_IMPLICIT,      /* of routes: TLS from the first byte; verified where tls_name says for whom */
};
enum conf_action { CONF_DELIVER, CONF_DISCARD, CONF_REJECT };

struct conf_route {
  char *domain; /* lower case, or "*" */
  enum conf_action action;
  struct netaddr *hosts; /* none but with CONF_DELIVER */
  unsigned hosts_count;
  enum conf_security tls;                /* default: as delivery.tls, but with a user CONF_SECURITY_REQUIRE at least */
  char *tls_name;                        /* whom the certificate is for, lower case; NULL: not verified */
  char *user, *password_file, *password; /* for AUTH; NULL: none. The last is read by conf_read alone */
};

struct conf_pattern {
  char *key; /* lower case: "example.org", or ".example.net" for what is below it ("*.example.net") */
  unsigned site;
};

/* What holds for some destinations only. Whole: what the entry does not say is as in queue and delivery. */
struct conf_site {
  struct conf_pattern *match;
  unsigned match_count; /* >= 1 */
  uint64_t retry_initial_ms, retry_max_ms, max_age_ms;
  double retry_factor;
  uint32_t retry_jitter_ppm;
  uint32_t connections_per_site;
  uint32_t messages_per_connection;
  enum conf_security tls;
  bool tls_said; /* by the entry itself: for these destinations neither DANE nor MTA-STS count */
};

struct conf {
  char *hostname;  /* default: the system's, which must be qualified */
  unsigned shards; /* >= 1: 0 in the file has become the number of cores */
  char *user;      /* who root becomes; NULL: nobody */
  bool sandbox;    /* default true: files and system calls are limited (net/cli/sandbox.h) */
  char *spool_path;
  enum conf_durability durability;
  uint64_t segment_size_bytes;   /* spool.segment_size, default 64MiB, 8MiB..1GiB; the spool makes them smaller on a small disk */
  uint64_t spool_max_bytes;      /* spool.max_size, default 0: as much as the disk has */
  uint64_t spool_min_free_bytes; /* spool.min_free, default 256MiB: of the disk, left to others; a sixteenth of it at most */
  struct conf_listener *listeners;
  unsigned listeners_count;              /* >= 1 */
  struct conf_certificate *certificates; /* tls.certificates */
  unsigned certificates_count;
  char *client_ca;           /* tls.client_ca, a PEM file; NULL: none */
  char *tls_ca;              /* tls.ca, a PEM file: whom we believe of servers; NULL: the system's authorities */
  uint64_t tls_handshake_ms; /* tls.handshake_timeout, default 30s */
  char *users_path;          /* users: who may authenticate (net/auth/users.h); NULL: nobody */
  struct conf_clients_limits clients;
  struct network *clients_except; /* clients.except: for whom they do not hold; default: relay_from */
  unsigned clients_except_count;
  uint64_t greeting_delay_ms; /* clients.greeting_delay, default 0: who speaks before the banner comes is refused */
  uint64_t error_delay_ms;    /* clients.error_delay, default 0: so late an error is answered, after the first few */
  struct network *relay_from; /* default 127.0.0.0/8 and ::1 */
  unsigned relay_from_count;
  struct netaddr *dns_servers; /* default: /etc/resolv.conf, else 127.0.0.1:53 */
  unsigned dns_servers_count;
  uint32_t dns_timeout_ms; /* dns.timeout, default 2s */
  bool dns_ipv6;           /* dns.ipv6, default true: ask for AAAA, deliver over IPv6 */
  bool dns_dnssec;         /* dns.dnssec: the servers' word on what is secure counts; default: if all of them are on this machine */
  uint64_t retry_initial_ms, retry_max_ms, max_age_ms;
  double retry_factor;
  uint32_t retry_jitter_ppm; /* queue.retry_jitter, default 10%, 0 to 50%: in millionths of the delay, to each side */
  uint16_t delivery_port;
  uint32_t connections_per_site;
  uint32_t messages_per_connection;
  enum conf_security delivery_tls; /* delivery.tls, default opportunistic */
  bool dane;                       /* delivery.dane, default as dns_dnssec, which it needs */
  bool mta_sts;                    /* delivery.mta_sts, default true; the policies are kept in mta-sts.json of spool.path */
  struct netaddr
      mta_sts_server; /* delivery.mta_sts_server, for tests: where policies are fetched from, whatever the domain; family 0: where its name leads */
  uint64_t idle_ms;
  uint64_t timeout_connect_ms, timeout_greeting_ms, timeout_command_ms, timeout_data_ms, timeout_final_ms;
  bool pipelining, chunking;           /* delivery.pipelining, delivery.chunking, default true: used where the other server offers them */
  struct netaddr source_v4, source_v6; /* delivery.source: ["192.0.2.9", "2001:db8::9"], at most one of each family; family 0: the system's choice */
  struct conf_route *routes;
  unsigned routes_count;
  struct map routes_by_domain; /* those */
  bool any_route_rejects;
  struct conf_site *sites; /* in the order of the file: the first that matches counts (core/conf/sites.h) */
  unsigned sites_count;
  struct map site_patterns; /* struct conf_pattern, of all of them */
  uint32_t sessions_max, recipients_max, session_errors_max, session_messages_max;
  uint64_t session_timeout_ms;             /* limits.session_timeout, default 5m (RFC 5321 4.5.3.2.7) */
  uint64_t message_size_max, memory_bytes; /* limits.memory: bodies in memory, all shards together; default a quarter of the machine's */
  uint64_t queue_messages_max;             /* limits.messages: queued messages over all shards, default 4000000 */
  bool dsn_send;                           /* dsn.send, default true: reports of failure (and, where asked for, of success) go to the sender */
  uint64_t dsn_delay_ms;                   /* dsn.delay, default 0: no report of delay; else after so long */
  uint64_t dsn_return_max;                 /* dsn.return_max, default 64KiB: up to this size a message is returned whole where RET=FULL asks for it */
  uint32_t dsn_rate;                       /* dsn.rate, default 60: reports a minute to one sender, from each shard */
  char *events_path;                       /* NULL: no event files */
  uint64_t events_file_size_bytes;         /* events.file_size, default 256MiB: then a new file is begun */
  unsigned events_files_max;               /* events.files, default 0: keep all; else the oldest of a shard are removed */
  struct netaddr http;                     /* family 0: none */
};

/*
 * Reads the file. On error returns E_NOT_FOUND, E_PERMISSION, E_SYNTAX or E_RANGE (rarely another: E_NO_MEMORY, E_IO), and `why` (which should have room
 * for 512 bytes) has one line without newline, such as
 * "ringpost.yaml:12: delivery.idle: '5 parsecs' is no duration (like 300ms, 5s, 10m, 4h, 5d)". Nothing is left allocated then.
 */
must_check int conf_read(struct conf *conf, const char *path, struct fmt *why);
/* The same from memory; `name` stands for the file in errors. */
must_check int conf_parse(struct conf *conf, struct span text, const char *name, struct fmt *why);
/* As conf_parse, with these facts about the machine (core/conf/system.h) for the defaults: for tests. */
struct conf_system;
must_check int conf_parse_on(struct conf *conf, const struct conf_system *system, struct span text, const char *name, struct fmt *why);
void conf_free(struct conf *conf);
/* Of a configuration that was replaced: only its `sites` stay, for those who still point there. conf_free is still to come. */
void conf_free_but_sites(struct conf *conf);

/* "300ms", "5s", "10m", "4h", "5d", "0"; and "64KiB", "50MiB", "1GiB", "2TiB", "512". The whole span. E_SYNTAX, E_RANGE. */
must_check int conf_duration(struct span text, uint64_t *ms);
must_check int conf_size(struct span text, uint64_t *bytes);

#endif
