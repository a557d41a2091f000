#include "net/cli/spool.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "net/smtp/address.h"
#include "queue/spool/view.h"

static const char usage[] =
    "usage: ringpost spool verify [--lazy] DIR\n"
    "       ringpost spool dump [--lazy] [--content ID] DIR\n"
    "\n"
    "Looks at a spool without changing it. DIR is spool.path, or the directory of one shard in it.\n"
    "\n"
    "  verify          says of each segment what it is, and what is damaged, where and why; not while a relay has the spool\n"
    "  dump            writes each message that waits as one JSON object a line\n"
    "  --content ID    writes the content of this message instead, as it came\n"
    "  --lazy          the relay has spool.durability lazy or memory: what follows a gap in the newest segment was never answered for\n"
    "\n"
    "Exit status: 0 sound, 1 something that counts is damaged (or ID is not there), 2 bad usage, or it cannot be read.\n";

enum { EXIT_SOUND = 0, EXIT_DAMAGED = 1, EXIT_TROUBLE = 2 };

#define PATH_ROOM 4096

struct look {
  struct io *io;
  struct view *view;
  struct census census;
  const char *path; /* of the directory under way */
  uint64_t wanted;  /* the message whose content is asked for; 0: none */
  unsigned damaged; /* so far, in all directories */
  bool found;       /* the content was written */
  bool lazy, in_use;
};

static int trouble(const char *path, int error) {
  fprintf(stderr, "ringpost spool: %s: %s\n", path, error_text(error));
  return EXIT_TROUBLE;
}

/* ---- JSON ---- */

static void put_json(struct span text) {
  putchar('"');
  while (text.len > 0) {
    size_t len = address_utf8_len(text);
    if (len == 0) {
      fputs("\\ufffd", stdout);
    } else if (text.at[0] == '"' || text.at[0] == '\\') {
      printf("\\%c", text.at[0]);
    } else if (text.at[0] < 0x20 || text.at[0] == 0x7f) {
      printf("\\u%04x", text.at[0]);
    } else {
      fwrite(text.at, 1, len, stdout);
    }
    text = span_skip(text, len == 0 ? 1 : len);
  }
  putchar('"');
}

static void put_time(const char *key, uint64_t ms) { printf(",\"%s\":%" PRIu64 ".%03" PRIu64, key, ms / 1000, ms % 1000); }

/* ---- dump ---- */

static const char *state_of(const struct census_recipient *recipient) {
  if (!recipient->done && (recipient->marks & RECORD_OWED_BIT) != 0) return "unreported";
  if (!recipient->done) return recipient->attempts > 0 || recipient->kind == RECORD_DEFERRED ? "deferred" : "waiting";
  return recipient->kind == RECORD_DELIVERED ? "delivered" : recipient->kind == RECORD_FAILED ? "failed" : "expired";
}

static void put_recipients(const struct census_message *message, struct span envelope) {
  struct record_envelope decoded;
  struct record_recipient recipient;
  int error = record_envelope_decode(&decoded, &envelope);
  printf(",\"recipients\":[");
  for (unsigned i = 0; i < message->recipients && error == E_OK; i++) {
    error = record_recipient_decode(&recipient, &envelope);
    const struct census_recipient *now = &message->recipient[i];
    fputs(i > 0 ? ",{\"recipient\":" : "{\"recipient\":", stdout);
    put_json(recipient.address);
    printf(",\"state\":\"%s\",\"attempts\":%u", state_of(now), now->attempts);
    if (!now->done && now->due_ms > RECORD_DUE_OLD) put_time("next_try", now->due_ms);
    putchar('}');
  }
  putchar(']');
}

static int dump_message(void *context, struct census_message *message, struct span record) {
  const struct look *look = context;
  struct record_header header;
  struct record_envelope envelope;
  uint64_t hash;
  if (record_header_decode(&header, record.at, record.len, message->place.segment, &hash) != E_OK) return E_OK;
  struct span bytes = span_of(record.at + RECORD_HEADER_SIZE, header.envelope_size), rest = bytes;
  printf("{\"id\":\"%016" PRIx64 "\"", message->id);
  if (message->readable && record_envelope_decode(&envelope, &rest) == E_OK) {
    put_time("created", envelope.created_ms);
    printf(",\"sender\":");
    put_json(envelope.sender);
    printf(",\"peer\":");
    put_json(envelope.peer);
    if (envelope.require_tls) printf(",\"require_tls\":true");
    if (envelope.tls_optional) printf(",\"tls_optional\":true");
    put_recipients(message, bytes);
  } else {
    printf(",\"error\":\"the envelope cannot be read\"");
  }
  printf(",\"size\":%" PRIu64 ",\"parts\":%u,\"place\":{\"directory\":", message->parts_bytes + message->content_size, message->parts_count);
  put_json(span_of_text(look->path));
  printf(",\"segment\":%u,\"offset\":%" PRIu64 ",\"length\":%u}}\n", message->place.segment, message->place.offset, message->place.length);
  return E_OK;
}

/* ---- content: as it came, so without the dots that SMTP puts before dots (RFC 5321 4.5.2) ---- */

struct unstuffer {
  char last[2]; /* what came before */
};

static void put_content(struct unstuffer *unstuffer, struct span content) {
  char *last = unstuffer->last;
  for (size_t i = 0; i < content.len; i++) {
    char c = (char)content.at[i];
    bool first = last[0] == '\r' && last[1] == '\n';
    if (!first || c != '.') putchar_unlocked(c);
    last[0] = last[1];
    last[1] = c;
  }
}

static int put_record(struct look *look, struct unstuffer *unstuffer, struct spool_place place) {
  struct record_header header;
  uint64_t hash;
  uint8_t *room = aligned_alloc(SPOOL_ALIGNMENT, SPOOL_RECORD_MAX);
  if (room == NULL || place.length > SPOOL_RECORD_MAX) {
    free(room);
    return E_NO_MEMORY;
  }
  int error = view_read(look->view, place, room);
  if (error == E_OK) error = record_header_decode(&header, room, place.length, place.segment, &hash);
  if (error == E_OK) put_content(unstuffer, span_of(room + RECORD_HEADER_SIZE + header.envelope_size, header.content_size));
  free(room);
  return error;
}

static int dump_content(struct look *look) {
  const struct census_message *message = census_find(&look->census, look->wanted);
  struct unstuffer unstuffer = {{'\r', '\n'}};
  if (message == NULL || !census_is_live(message) || !census_is_whole(message) || look->found) return EXIT_SOUND;
  int error = E_OK;
  for (uint32_t i = 0; i < message->parts_count && error == E_OK; i++) error = put_record(look, &unstuffer, message->parts[i]);
  if (error == E_OK) error = put_record(look, &unstuffer, message->place);
  look->found = true;
  return error == E_OK ? EXIT_SOUND : trouble(look->path, error);
}

/* ---- verify ---- */

struct part {
  struct view_segment segment; /* its path is ours */
  uint64_t messages;
};

struct parts {
  struct part *part;
  size_t count;
};

/* The live ones come first, in the order of their sequences. */
static bool collect_parts(struct view *view, struct parts *parts) {
  struct view_segment segment;
  for (unsigned i = 0; view_segment(view, i, &segment); i++) {
    struct part *grown = realloc(parts->part, (parts->count + 1) * sizeof *grown);
    char *path = strdup(segment.path);
    if (grown != NULL) parts->part = grown;
    if (grown == NULL || path == NULL) {
      free(path);
      return false;
    }
    segment.path = path;
    parts->part[parts->count++] = (struct part){.segment = segment};
  }
  return true;
}

static void free_parts(struct parts *parts) {
  for (size_t i = 0; i < parts->count; i++) free((char *)(uintptr_t)parts->part[i].segment.path);
  free(parts->part);
}

static bool is_live(const struct part *part) { return strcmp(part->segment.state, "live") == 0; }

static struct part *part_of(const struct parts *parts, uint32_t sequence) {
  size_t low = 0, high = 0;
  while (high < parts->count && is_live(&parts->part[high])) high++;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (parts->part[middle].segment.sequence == sequence) return &parts->part[middle];
    if (parts->part[middle].segment.sequence < sequence) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return NULL;
}

static void damage(struct look *look, const char *file, uint64_t offset, const char *why) {
  look->damaged++;
  printf("damaged file=%s offset=%" PRIu64 " why=\"%s\"\n", file, offset, why);
}

static void tell_part(const struct part *part) {
  const struct view_segment *segment = &part->segment;
  printf("segment file=%s state=\"%s\" size=%" PRIu64, segment->path, segment->state, segment->size_bytes);
  if (segment->sequence != 0) printf(" sequence=%u", segment->sequence);
  if (is_live(part)) {
    printf(" used=%" PRIu64 " records=%u messages=%" PRIu64, segment->end, segment->records, part->messages);
    if (segment->expected == 0)
      printf(" newest=1%s", segment->behind > 0 ? " behind=\"no records: a commit that was not finished, or what the file held before\"" : "");
  }
  printf("\n");
}

static void verify_part(struct look *look, const struct part *part) {
  const struct view_segment *segment = &part->segment;
  char why[200];
  if (!is_live(part)) {
    if (view_gaps(look->view) > 0 && segment->sequence == 0 && strcmp(segment->state, "free") != 0)
      damage(look, segment->path, 0, "no valid header block");
    return;
  }
  if (segment->holes > 0) {
    snprintf(why, sizeof why, "%s; records follow, and %u more such places", segment->hole_why, segment->holes - 1);
    if (segment->holes == 1) snprintf(why, sizeof why, "%s; records follow", segment->hole_why);
    damage(look, segment->path, segment->hole, why);
  }
  if (segment->expected == 0 || segment->end == segment->expected) return;
  snprintf(why, sizeof why, "%s; records went on to %" PRIu64, segment->stopped != NULL ? segment->stopped : "the file ends there",
           segment->expected);
  damage(look, segment->path, segment->end, why);
}

/* Counts where the live ones lie; those of which something is missing are damage. */
static uint64_t verify_messages(struct look *look, const struct parts *parts) {
  uint64_t live = 0;
  uint32_t cursor = 0;
  for (const struct census_message *message; (message = census_next(&look->census, &cursor)) != NULL;) {
    if (!census_is_live(message)) continue;
    struct part *part = part_of(parts, message->place.segment);
    const char *path = part != NULL ? part->segment.path : look->path;
    char why[100];
    if (part != NULL) part->messages++;
    live++;
    snprintf(why, sizeof why, "message %016" PRIx64 "%s", message->id, message->readable ? " lacks a part" : ": its envelope cannot be read");
    if (!message->readable || !census_is_whole(message)) damage(look, path, message->place.offset, why);
  }
  return live;
}

static int verify(struct look *look) {
  struct parts parts = {0};
  unsigned before = look->damaged;
  if (!collect_parts(look->view, &parts)) {
    free_parts(&parts);
    return trouble(look->path, E_NO_MEMORY);
  }
  uint64_t live = verify_messages(look, &parts);
  for (size_t i = 0; i < parts.count; i++) tell_part(&parts.part[i]);
  for (size_t i = 0; i < parts.count; i++) verify_part(look, &parts.part[i]);
  if (view_gaps(look->view) > 0) {
    char why[100];
    snprintf(why, sizeof why, "%u segments are missing between the oldest and the newest", view_gaps(look->view));
    damage(look, look->path, 0, why);
  }
  printf("spool directory=%s segments=%zu messages=%" PRIu64 " damaged=%u\n", look->path, parts.count, live, look->damaged - before);
  free_parts(&parts);
  return look->damaged > before ? EXIT_DAMAGED : EXIT_SOUND;
}

/* ---- one directory ---- */

static int read_spool(struct look *look, bool verifies) {
  char room[PATH_ROOM + 200];
  struct fmt why = fmt_over(room, sizeof room - 1);
  struct view_visitor visitor = {dump_message, look};
  uint64_t damaged;
  int error = view_open(&look->view, look->io, look->path, false, &why), status = EXIT_SOUND;
  if (error != E_OK) {
    fprintf(stderr, "ringpost spool: %.*s\n", (int)why.len, room);
    return EXIT_TROUBLE;
  }
  if (!look->lazy && !look->in_use) view_expect_synced(look->view);
  census_init(&look->census, 0, 1);
  error = view_count(look->view, &look->census, &damaged, &why);
  if (error == E_OK && verifies) {
    status = verify(look);
  } else if (error == E_OK && look->wanted != 0) {
    status = dump_content(look);
  } else if (error == E_OK) {
    error = view_visit(look->view, &look->census, &visitor, &why);
  }
  if (error != E_OK) fprintf(stderr, "ringpost spool: %.*s\n", (int)why.len, room);
  census_fini(&look->census);
  view_close(look->view);
  return error == E_OK ? status : EXIT_TROUBLE;
}

static int look_at(struct look *look, bool verifies) {
  bool in_use = look->in_use = view_is_in_use(look->io, look->path);
  if (in_use && !verifies) fprintf(stderr, "ringpost spool: %s is in use: what follows is of no one moment\n", look->path);
  int status = verifies && in_use ? EXIT_TROUBLE : read_spool(look, verifies);
  if (!verifies || (!in_use && !view_is_in_use(look->io, look->path))) return status;
  fprintf(stderr, "ringpost spool: %s is in use: it can be verified when the relay is stopped\n", look->path);
  return EXIT_TROUBLE;
}

/* ---- which directories ---- */

struct names {
  char (*name)[64];
  size_t count;
  bool is_spool; /* the directory itself */
  bool failed;
};

/* Those with mail of somebody: of shards, and those on their way from one to another. */
static void note_name(void *context, const char *name) {
  struct names *names = context;
  unsigned from, to;
  size_t len = strlen(name);
  names->is_spool |= strcmp(name, "lock") == 0 || (len > 4 && strcmp(name + len - 4, ".seg") == 0);
  if (sscanf(name, "shard-%u", &from) != 1 && sscanf(name, "leaving-%u-to-%u", &from, &to) != 2) return;
  char(*grown)[64] = len >= sizeof *names->name ? NULL : realloc(names->name, (names->count + 1) * sizeof *grown);
  names->failed |= grown == NULL;
  if (grown == NULL) return;
  names->name = grown;
  memcpy(names->name[names->count++], name, len + 1);
}

static int by_name(const void *a, const void *b) { return strcmp(a, b); }

static int worse(int a, int b) { return a > b ? a : b; }

static int look_at_all(struct look *look, const char *directory, bool verifies) {
  struct names names = {0};
  char path[PATH_ROOM];
  int error = io_directory_list(look->io, directory, note_name, &names), status = EXIT_SOUND;
  if (error == E_OK && names.failed) error = E_NO_MEMORY;
  if (error == E_OK && names.count == 0 && !names.is_spool) {
    fprintf(stderr, "ringpost spool: %s: neither a spool nor a directory of spools\n", directory);
    status = EXIT_TROUBLE;
  } else if (error == E_OK && names.is_spool) {
    look->path = directory;
    status = look_at(look, verifies);
  } else if (error == E_OK) {
    qsort(names.name, names.count, sizeof *names.name, by_name);
    for (size_t i = 0; i < names.count; i++) {
      snprintf(path, sizeof path, "%s/%s", directory, names.name[i]);
      look->path = path;
      status = worse(status, look_at(look, verifies));
    }
  }
  look->path = NULL;
  free(names.name);
  return error == E_OK ? status : trouble(directory, error);
}

static int run(const char *directory, bool verifies, bool lazy, uint64_t wanted) {
  struct io_options options = {.sockets_max = 1, .receive_buffers = 1, .receive_buffer_size = 4096};
  struct look look = {.wanted = wanted, .lazy = lazy};
  const char *why = "no ring";
  if (strlen(directory) >= PATH_ROOM - 64) return trouble(directory, E_TOO_LONG);
  if (io_open(&look.io, &options, &why) != E_OK) {
    fprintf(stderr, "ringpost spool: %s\n", why);
    return EXIT_TROUBLE;
  }
  int status = look_at_all(&look, directory, verifies);
  io_destroy(look.io);
  if (fflush(stdout) != 0 || ferror(stdout)) return trouble("standard output", E_IO);
  if (wanted == 0 || look.found || status != EXIT_SOUND) return status;
  fprintf(stderr, "ringpost spool: %s: no message %016" PRIx64 " waits there\n", directory, wanted);
  return EXIT_DAMAGED;
}

static int complain(const char *what) {
  fprintf(stderr, "ringpost spool: %s. Try `ringpost spool --help`.\n", what);
  return EXIT_TROUBLE;
}

/* As events and replies have it. */
static bool read_id(const char *text, uint64_t *id) {
  char *end;
  *id = strtoull(text, &end, 16);
  return strlen(text) == 16 && strspn(text, "0123456789abcdefABCDEF") == 16 && *id != 0;
}

int spool_command(int count, char **arguments) {
  static const struct option options[] = {
      {"content", required_argument, NULL, 'c'}, {"lazy", no_argument, NULL, 'l'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
  static char name[] = "ringpost spool";
  uint64_t wanted = 0;
  bool lazy = false;
  arguments[-1] = name; /* what getopt says begins with it */
  optind = 0;           /* getopt starts anew, behind the word before */
  for (int option; (option = getopt_long(count + 1, arguments - 1, "h", options, NULL)) != -1;) {
    switch (option) {
    case 'c':
      if (!read_id(optarg, &wanted)) return complain("--content takes an id of 16 hexadecimal digits");
      break;
    case 'l': lazy = true; break;
    case 'h': fputs(usage, stdout); return EXIT_SOUND;
    default: fputs("Try `ringpost spool --help`.\n", stderr); return EXIT_TROUBLE;
    }
  }
  char **words = arguments - 1 + optind;
  int words_count = count + 1 - optind;
  bool verifies = words_count > 0 && strcmp(words[0], "verify") == 0, dumps = words_count > 0 && strcmp(words[0], "dump") == 0;
  if (!verifies && !dumps) return complain("what is wanted is missing: verify or dump");
  if (words_count != 2) return complain(words_count < 2 ? "DIR is missing" : "unexpected argument");
  if (verifies && wanted != 0) return complain("--content goes with dump");
  return run(words[1], verifies, lazy, wanted);
}
