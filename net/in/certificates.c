#include "net/in/certificates.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/conf/system.h"

struct source {
  char *path;
  struct system_file state;
};

struct certificates {
  _Atomic unsigned holders;
  struct tls_server *plain, *asking; /* the latter NULL without client_ca */
  struct source *sources;
  unsigned sources_count;
};

/* ---- files ---- */

static bool note_source(struct certificates *certificates, const char *path) {
  struct source *source = &certificates->sources[certificates->sources_count];
  source->path = strdup(path);
  if (source->path == NULL) return false;
  certificates->sources_count++;
  if (system_look_at_file(path, &source->state) != E_OK) source->state = (struct system_file){0}; /* whoever reads it says why */
  return true;
}

static int note_sources(struct certificates *certificates, const struct conf *conf) {
  certificates->sources = calloc(2ul * conf->certificates_count + 1, sizeof *certificates->sources);
  bool all = certificates->sources != NULL;
  for (unsigned i = 0; all && i < conf->certificates_count; i++)
    all = note_source(certificates, conf->certificates[i].cert) && note_source(certificates, conf->certificates[i].key);
  if (all && conf->client_ca != NULL) all = note_source(certificates, conf->client_ca);
  return all ? E_OK : E_NO_MEMORY;
}

bool certificates_changed(const struct certificates *certificates) {
  for (unsigned i = 0; certificates != NULL && i < certificates->sources_count; i++) {
    struct system_file now;
    if (system_look_at_file(certificates->sources[i].path, &now) == E_OK && !system_same_file(&now, &certificates->sources[i].state)) return true;
  }
  return false;
}

/* ---- servers ---- */

static void say_warnings(const struct fmt *warnings) {
  struct span rest = fmt_span(warnings);
  for (ptrdiff_t end; rest.len > 0; rest = end < 0 ? span_of(NULL, 0) : span_skip(rest, (size_t)end + 1)) {
    end = span_find(rest, '\n');
    struct span line = end < 0 ? rest : span_first(rest, (size_t)end);
    if (line.len > 0) fprintf(stderr, "ringpost: %.*s\n", (int)line.len, (const char *)line.at);
  }
}

static int open_servers(struct certificates *certificates, const struct conf *conf, struct tls_tickets *tickets, uint64_t wall_ms, struct fmt *why) {
  uint8_t room[4096];
  struct fmt warnings = fmt_over(room, sizeof room), unheard = fmt_over(NULL, 0);
  struct tls_files *files = calloc(conf->certificates_count, sizeof *files);
  if (files == NULL) return E_NO_MEMORY;
  for (unsigned i = 0; i < conf->certificates_count; i++) files[i] = (struct tls_files){conf->certificates[i].cert, conf->certificates[i].key};
  struct tls_server_config config = {.certificates = files, .certificate_count = conf->certificates_count, .tickets = tickets};
  int error = tls_server_new(&certificates->plain, &config, wall_ms, why, &warnings);
  config.client_ca = conf->client_ca;
  if (error == E_OK && conf->client_ca != NULL) error = tls_server_new(&certificates->asking, &config, wall_ms, why, &unheard);
  free(files);
  say_warnings(&warnings);
  return error;
}

int certificates_load(struct certificates **out, const struct conf *conf, struct tls_tickets *tickets, uint64_t wall_ms, struct fmt *why) {
  *out = NULL;
  if (conf->certificates_count == 0) return E_OK;
  struct certificates *certificates = calloc(1, sizeof *certificates);
  if (certificates == NULL) return E_NO_MEMORY;
  atomic_init(&certificates->holders, 1);
  int error = note_sources(certificates, conf);
  if (error == E_OK) error = open_servers(certificates, conf, tickets, wall_ms, why);
  if (error == E_NO_MEMORY && why->len == 0) fmt_text(why, "certificates: out of memory");
  if (error == E_OK) {
    *out = certificates;
  } else {
    certificates_put(certificates);
  }
  return error;
}

struct certificates *certificates_share(struct certificates *certificates) {
  if (certificates != NULL) atomic_fetch_add(&certificates->holders, 1);
  return certificates;
}

void certificates_put(struct certificates *certificates) {
  if (certificates == NULL || atomic_fetch_sub(&certificates->holders, 1) > 1) return;
  if (certificates->plain != NULL) tls_server_put(certificates->plain);
  if (certificates->asking != NULL) tls_server_put(certificates->asking);
  for (unsigned i = 0; i < certificates->sources_count; i++) free(certificates->sources[i].path);
  free(certificates->sources);
  free(certificates);
}

struct tls_server *certificates_server(const struct certificates *certificates, bool asks) {
  if (certificates == NULL) return NULL;
  return asks && certificates->asking != NULL ? certificates->asking : certificates->plain;
}
