#include "core/conf/raw.h"

#include <cyaml/cyaml.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/dns_lists.h"
#include "core/conf/outline.h"

enum {
  VALUE_BYTES_MAX = 1000, /* of one value: the longest are paths, which get a name appended and must stay below PATH_MAX */
  LISTENERS_MAX = 64,
  NETWORKS_MAX = 65536,
  ANSWERS_MAX = 1000, /* of one DNS list */
  CERTIFICATES_MAX = 1000,
  SERVERS_MAX = 8,
  SOURCES_MAX = 2, /* one of each family */
  ROUTES_MAX = 100000,
  HOSTS_MAX = 16,
  SITES_MAX = 10000,
  PATTERNS_MAX = 1000, /* of one entry */
};

/* ---- what keys there are. None is required here: conf.c knows what is missing ---- */

#define WORD(owner, member) CYAML_FIELD_STRING_PTR(#member, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, owner, member, 0, VALUE_BYTES_MAX)
#define LIST(owner, member, entry, max) CYAML_FIELD_SEQUENCE(#member, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, owner, member, entry, 1, max)
#define SECTION(owner, member, fields) CYAML_FIELD_MAPPING(#member, CYAML_FLAG_OPTIONAL, owner, member, fields)

static const cyaml_schema_value_t word_entry = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 0, VALUE_BYTES_MAX)};

static const cyaml_schema_field_t spool_fields[] = {
    WORD(struct raw_spool, path),     WORD(struct raw_spool, durability), WORD(struct raw_spool, segment_size),
    WORD(struct raw_spool, max_size), WORD(struct raw_spool, min_free),   CYAML_FIELD_END,
};

static const cyaml_schema_field_t dns_list_fields[] = {
    WORD(struct raw_dns_list, zone),   LIST(struct raw_dns_list, answers, &word_entry, ANSWERS_MAX),
    WORD(struct raw_dns_list, weight), WORD(struct raw_dns_list, name),
    WORD(struct raw_dns_list, text),   CYAML_FIELD_END,
};
static const cyaml_schema_value_t dns_list_entry = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_dns_list, dns_list_fields)};

static const cyaml_schema_field_t listener_fields[] = {
    WORD(struct raw_listener, address),
    WORD(struct raw_listener, port),
    WORD(struct raw_listener, tls),
    WORD(struct raw_listener, auth),
    WORD(struct raw_listener, auth_in_clear),
    WORD(struct raw_listener, client_certificates),
    WORD(struct raw_listener, submission),
    LIST(struct raw_listener, proxy_from, &word_entry, NETWORKS_MAX),
    LIST(struct raw_listener, dns_lists, &dns_list_entry, DNS_LISTS_MAX),
    WORD(struct raw_listener, dns_lists_threshold),
    WORD(struct raw_listener, dns_lists_timeout),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t listener_entry = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_listener, listener_fields)};

static const cyaml_schema_field_t certificate_fields[] = {WORD(struct raw_certificate, cert), WORD(struct raw_certificate, key), CYAML_FIELD_END};
static const cyaml_schema_value_t certificate_entry = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_certificate, certificate_fields)};

static const cyaml_schema_field_t tls_fields[] = {
    LIST(struct raw_tls, certificates, &certificate_entry, CERTIFICATES_MAX),
    WORD(struct raw_tls, client_ca),
    WORD(struct raw_tls, ca),
    WORD(struct raw_tls, handshake_timeout),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t clients_fields[] = {
    WORD(struct raw_clients, sessions),
    WORD(struct raw_clients, connections),
    WORD(struct raw_clients, messages),
    WORD(struct raw_clients, recipients),
    WORD(struct raw_clients, errors),
    WORD(struct raw_clients, greeting_delay),
    WORD(struct raw_clients, error_delay),
    LIST(struct raw_clients, except, &word_entry, NETWORKS_MAX),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t dns_fields[] = {
    LIST(struct raw_dns, servers, &word_entry, SERVERS_MAX),
    WORD(struct raw_dns, timeout),
    WORD(struct raw_dns, ipv6),
    WORD(struct raw_dns, dnssec),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t queue_fields[] = {
    WORD(struct raw_queue, retry_initial), WORD(struct raw_queue, retry_factor), WORD(struct raw_queue, retry_max),
    WORD(struct raw_queue, retry_jitter),  WORD(struct raw_queue, max_age),      CYAML_FIELD_END,
};

static const cyaml_schema_field_t timeouts_fields[] = {
    WORD(struct raw_timeouts, connect), WORD(struct raw_timeouts, greeting), WORD(struct raw_timeouts, command),
    WORD(struct raw_timeouts, data),    WORD(struct raw_timeouts, final),    CYAML_FIELD_END,
};

static const cyaml_schema_field_t delivery_fields[] = {
    WORD(struct raw_delivery, port),
    WORD(struct raw_delivery, connections_per_site),
    WORD(struct raw_delivery, messages_per_connection),
    WORD(struct raw_delivery, tls),
    WORD(struct raw_delivery, dane),
    WORD(struct raw_delivery, mta_sts),
    WORD(struct raw_delivery, mta_sts_server),
    WORD(struct raw_delivery, idle),
    WORD(struct raw_delivery, pipelining),
    WORD(struct raw_delivery, chunking),
    LIST(struct raw_delivery, source, &word_entry, SOURCES_MAX),
    SECTION(struct raw_delivery, timeouts, timeouts_fields),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t route_fields[] = {
    WORD(struct raw_route, domain),
    WORD(struct raw_route, action),
    LIST(struct raw_route, hosts, &word_entry, HOSTS_MAX),
    WORD(struct raw_route, tls),
    WORD(struct raw_route, tls_name),
    WORD(struct raw_route, user),
    WORD(struct raw_route, password_file),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t route_entry = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_route, route_fields)};

static const cyaml_schema_field_t site_fields[] = {
    LIST(struct raw_site, match, &word_entry, PATTERNS_MAX),
    WORD(struct raw_site, retry_initial),
    WORD(struct raw_site, retry_factor),
    WORD(struct raw_site, retry_max),
    WORD(struct raw_site, retry_jitter),
    WORD(struct raw_site, max_age),
    WORD(struct raw_site, connections_per_site),
    WORD(struct raw_site, messages_per_connection),
    WORD(struct raw_site, tls),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t site_entry = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_site, site_fields)};

static const cyaml_schema_field_t limits_fields[] = {
    WORD(struct raw_limits, sessions),       WORD(struct raw_limits, message_size),     WORD(struct raw_limits, recipients),
    WORD(struct raw_limits, session_errors), WORD(struct raw_limits, session_messages), WORD(struct raw_limits, session_timeout),
    WORD(struct raw_limits, memory),         WORD(struct raw_limits, messages),         CYAML_FIELD_END,
};

static const cyaml_schema_field_t dsn_fields[] = {
    WORD(struct raw_dsn, send), WORD(struct raw_dsn, delay), WORD(struct raw_dsn, return_max), WORD(struct raw_dsn, rate), CYAML_FIELD_END,
};

static const cyaml_schema_field_t events_fields[] = {
    WORD(struct raw_events, path),
    WORD(struct raw_events, file_size),
    WORD(struct raw_events, files),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t http_fields[] = {WORD(struct raw_http, address), WORD(struct raw_http, port), CYAML_FIELD_END};

static const cyaml_schema_field_t root_fields[] = {
    WORD(struct raw, hostname),
    WORD(struct raw, shards),
    WORD(struct raw, user),
    WORD(struct raw, sandbox),
    SECTION(struct raw, spool, spool_fields),
    LIST(struct raw, listeners, &listener_entry, LISTENERS_MAX),
    LIST(struct raw, relay_from, &word_entry, NETWORKS_MAX),
    WORD(struct raw, users),
    SECTION(struct raw, tls, tls_fields),
    SECTION(struct raw, clients, clients_fields),
    SECTION(struct raw, dns, dns_fields),
    SECTION(struct raw, queue, queue_fields),
    SECTION(struct raw, delivery, delivery_fields),
    LIST(struct raw, routes, &route_entry, ROUTES_MAX),
    LIST(struct raw, sites, &site_entry, SITES_MAX),
    SECTION(struct raw, limits, limits_fields),
    SECTION(struct raw, dsn, dsn_fields),
    SECTION(struct raw, events, events_fields),
    SECTION(struct raw, http, http_fields),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t root = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, root_fields)};

/* ---- what libcyaml says, caught: one line that names the fault, then where it is, from the inside out ---- */

enum { STEP_ROOM = 48 };

struct step {
  char key[STEP_ROOM]; /* empty: an entry of a list */
  unsigned index;
};

struct trouble {
  char fault[STEP_ROOM + 64];
  struct step steps[OUTLINE_DEPTH_MAX]; /* innermost first */
  unsigned count;
};

static void note_step(struct trouble *t, const char *key, unsigned index) {
  if (t->count == OUTLINE_DEPTH_MAX) return;
  struct step *step = &t->steps[t->count++];
  snprintf(step->key, sizeof step->key, "%s", key);
  step->index = index;
}

static void on_log(cyaml_log_t level, void *context, const char *format, va_list arguments) {
  struct trouble *t = context;
  char line[256], key[STEP_ROOM] = "";
  unsigned index;
  (void)level;
  vsnprintf(line, sizeof line, format, arguments);
  line[strcspn(line, "\n")] = '\0';
  if (sscanf(line, " in mapping field '%47[^']'", key) == 1) {
    note_step(t, key, 0);
  } else if (sscanf(line, " in sequence entry '%u'", &index) == 1) {
    if (index > 0) note_step(t, "", index - 1); /* counted from 1; 0 is a list without entries */
  } else if (t->fault[0] == '\0') {
    snprintf(t->fault, sizeof t->fault, "%.*s", (int)sizeof t->fault - 1, line);
  }
}

static void write_path(const struct trouble *t, const char *last, char room[OUTLINE_PATH_ROOM]) {
  size_t len = 0;
  room[0] = '\0';
  for (unsigned i = t->count; i-- > 0;) {
    const struct step *step = &t->steps[i];
    const char *dot = len > 0 ? "." : "";
    len += (size_t)(step->key[0] != '\0' ? snprintf(room + len, OUTLINE_PATH_ROOM - len, "%s%s", dot, step->key)
                                         : snprintf(room + len, OUTLINE_PATH_ROOM - len, "[%u]", step->index));
  }
  if (last[0] != '\0') snprintf(room + len, OUTLINE_PATH_ROOM - len, "%s%s", len > 0 ? "." : "", last);
}

/* The keys that may stand where the trouble is; NULL if that is no mapping. */
static const cyaml_schema_field_t *fields_at(const struct trouble *t) {
  const cyaml_schema_value_t *value = &root;
  for (unsigned i = t->count; i-- > 0;) {
    const struct step *step = &t->steps[i];
    if (step->key[0] == '\0') {
      if (value->type != CYAML_SEQUENCE) return NULL;
      value = value->sequence.entry;
      continue;
    }
    if (value->type != CYAML_MAPPING) return NULL;
    const cyaml_schema_field_t *field = value->mapping.fields;
    while (field->key != NULL && strcmp(field->key, step->key) != 0) field++;
    if (field->key == NULL) return NULL;
    value = &field->value;
  }
  return value->type == CYAML_MAPPING ? value->mapping.fields : NULL;
}

static void list_keys(const struct trouble *t, char *room, size_t size) {
  struct fmt out = fmt_over(room, size - 1);
  for (const cyaml_schema_field_t *field = fields_at(t); field != NULL && field->key != NULL; field++) {
    if (out.len > 0) fmt_text(&out, ", ");
    fmt_text(&out, field->key);
  }
  room[out.len] = '\0';
}

/* A list that is too long is named itself, not its first entry too many. */
static void leave_entry(struct trouble *t) {
  if (t->count == 0 || t->steps[0].key[0] != '\0') return;
  t->count--;
  memmove(t->steps, t->steps + 1, t->count * sizeof *t->steps);
}

/* Lists that nothing works without: leaving the key out is no way. */
static bool is_required(const char *path) {
  const char *last = strrchr(path, '.');
  return strcmp(path, "listeners") == 0 || (last != NULL && (strcmp(last, ".hosts") == 0 || strcmp(last, ".match") == 0));
}

static int report_trouble(struct trouble *t, cyaml_err_t error, struct span text, const struct report *report) {
  char path[OUTLINE_PATH_ROOM], keys[256], key[STEP_ROOM] = "", kind[16] = "";
  if (error == CYAML_ERR_OOM) return E_NO_MEMORY;
  if (error == CYAML_ERR_SEQUENCE_ENTRIES_MAX) leave_entry(t);
  (void)sscanf(t->fault, "Load: Unexpected key: %47[^\n]", key);
  (void)sscanf(t->fault, "Load: Expecting %15[A-Z]", kind);
  write_path(t, key, path);
  list_keys(t, keys, sizeof keys);
  unsigned line = outline_line(text, path);
  if (key[0] != '\0') return report_error(report, E_SYNTAX, line, path, "unknown key; known here are: %s", keys);
  if (strcmp(kind, "STRING") == 0) return report_error(report, E_SYNTAX, line, path, "must be one value, not a list or a mapping");
  if (strcmp(kind, "SEQUENCE") == 0) return report_error(report, E_SYNTAX, line, path, "must be a list, like [one, two]");
  if (strcmp(kind, "MAPPING") == 0) return report_error(report, E_SYNTAX, line, path, "must be a mapping with keys of these: %s", keys);
  switch (error) {
  case CYAML_ERR_SEQUENCE_ENTRIES_MIN:
    return report_error(report, E_SYNTAX, line, path, "the list is empty; it needs one entry at least%s",
                        is_required(path) ? "" : ", or leave the key out");
  case CYAML_ERR_SEQUENCE_ENTRIES_MAX: return report_error(report, E_RANGE, line, path, "the list has too many entries");
  case CYAML_ERR_STRING_LENGTH_MAX: return report_error(report, E_RANGE, line, path, "is too long: %d bytes are the most", VALUE_BYTES_MAX);
  default: return report_error(report, E_SYNTAX, line, path, "%s", cyaml_strerror(error));
  }
}

static cyaml_config_t config_with(struct trouble *trouble) {
  return (cyaml_config_t){.log_fn = on_log, .log_ctx = trouble, .mem_fn = cyaml_mem, .log_level = CYAML_LOG_ERROR, .flags = CYAML_CFG_NO_ALIAS};
}

int raw_load(struct raw **raw, struct span text, const struct report *report) {
  struct trouble trouble = {0};
  cyaml_config_t config = config_with(&trouble);
  cyaml_data_t *data = NULL;
  *raw = NULL;
  cyaml_err_t error = cyaml_load_data(text.at, text.len, &config, &root, &data, NULL);
  if (error != CYAML_OK) return report_trouble(&trouble, error, text, report);
  *raw = data;
  return E_OK;
}

void raw_free(struct raw *raw) {
  struct trouble trouble = {0};
  cyaml_config_t config = config_with(&trouble);
  if (raw != NULL) cyaml_free(&config, &root, raw, 0);
}
