/*
 * raw: the configuration as it stands in the file: every value as text, NULL where a key is missing. Filled by libcyaml, which decides what keys there
 * are and whether each is a word, a list or a mapping; what the words mean is decided by setting.h and conf.c.
 */
#ifndef CORE_CONF_RAW_H
#define CORE_CONF_RAW_H

#include "core/base/must.h"
#include "core/base/span.h"
#include "core/conf/report.h"

struct raw_spool {
  char *path, *durability, *segment_size, *max_size, *min_free;
};

struct raw_dns_list {
  char *zone, *name, *text, *weight;
  char **answers;
  unsigned answers_count;
};

struct raw_listener {
  char *address, *port, *tls, *auth, *auth_in_clear, *client_certificates, *submission;
  char **proxy_from;
  unsigned proxy_from_count;
  struct raw_dns_list *dns_lists;
  unsigned dns_lists_count;
  char *dns_lists_threshold, *dns_lists_timeout;
};

struct raw_certificate {
  char *cert, *key;
};

struct raw_tls {
  struct raw_certificate *certificates;
  unsigned certificates_count;
  char *client_ca, *ca, *handshake_timeout;
};

struct raw_clients {
  char *sessions, *connections, *messages, *recipients, *errors, *greeting_delay, *error_delay;
  char **except;
  unsigned except_count;
};

struct raw_dns {
  char **servers;
  unsigned servers_count;
  char *timeout, *ipv6, *dnssec;
};

struct raw_queue {
  char *retry_initial, *retry_factor, *retry_max, *retry_jitter, *max_age;
};

struct raw_timeouts {
  char *connect, *greeting, *command, *data, *final;
};

struct raw_delivery {
  char *port, *connections_per_site, *messages_per_connection, *tls, *dane, *mta_sts, *mta_sts_server, *idle, *pipelining, *chunking;
  char **source;
  unsigned source_count;
  struct raw_timeouts timeouts;
};

struct raw_route {
  char *domain;
  char **hosts;
  unsigned hosts_count;
  char *action, *tls, *tls_name, *user, *password_file;
};

struct raw_site {
  char **match;
  unsigned match_count;
  char *retry_initial, *retry_factor, *retry_max, *retry_jitter, *max_age, *connections_per_site, *messages_per_connection, *tls;
};

struct raw_limits {
  char *sessions, *message_size, *recipients, *session_errors, *session_messages, *session_timeout, *memory, *messages;
};

struct raw_dsn {
  char *send, *delay, *return_max, *rate;
};

struct raw_events {
  char *path, *file_size, *files;
};

struct raw_http {
  char *address, *port;
};

struct raw {
  char *hostname, *shards, *user, *sandbox;
  struct raw_spool spool;
  struct raw_listener *listeners;
  unsigned listeners_count;
  char **relay_from;
  unsigned relay_from_count;
  char *users;
  struct raw_tls tls;
  struct raw_clients clients;
  struct raw_dns dns;
  struct raw_queue queue;
  struct raw_delivery delivery;
  struct raw_route *routes;
  unsigned routes_count;
  struct raw_site *sites;
  unsigned sites_count;
  struct raw_limits limits;
  struct raw_dsn dsn;
  struct raw_events events;
  struct raw_http http;
};

/* Needs a text that outline_check has passed. E_SYNTAX with a line in the report, or E_NO_MEMORY. Gives *raw, which is NULL for a text with no keys. */
must_check int raw_load(struct raw **raw, struct span text, const struct report *report);
void raw_free(struct raw *raw);

#endif
