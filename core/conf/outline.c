#include "core/conf/outline.h"

#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "core/base/error.h"

enum {
  KEY_ROOM = 32, /* longer than any key there is */
  KEYS_MAX = 64, /* in one mapping: more than there are */
};

struct frame {
  bool is_mapping;
  bool has_key; /* a mapping's key was read, its value comes next */
  unsigned count;
  char keys[KEYS_MAX][KEY_ROOM]; /* of a mapping, in order; the last one is the present */
};

struct walk {
  struct frame frames[OUTLINE_DEPTH_MAX];
  unsigned depth;
  unsigned documents;
  unsigned line; /* of the present event */
  char path[OUTLINE_PATH_ROOM];
  const struct report *report; /* NULL: what is wrong was reported already */
  /* the search of outline_line */
  const char *wanted;
  size_t best_len;
  unsigned best_line;
};

#define REFUSE(w, ...) ((w)->report == NULL ? E_SYNTAX : report_error((w)->report, E_SYNTAX, (w)->line, (w)->path, __VA_ARGS__))

static struct frame *top(struct walk *w) { return w->depth == 0 ? NULL : &w->frames[w->depth - 1]; }
static bool wants_key(struct walk *w) { return w->depth > 0 && top(w)->is_mapping && !top(w)->has_key; }

/* Writes the path of the node that the present event begins. */
static void trace_path(struct walk *w) {
  size_t len = 0;
  w->path[0] = '\0';
  for (unsigned i = 0; i < w->depth; i++) {
    const struct frame *frame = &w->frames[i];
    if (frame->is_mapping && !frame->has_key) break;
    const char *dot = len > 0 ? "." : "";
    int wrote = frame->is_mapping ? snprintf(w->path + len, sizeof w->path - len, "%s%s", dot, frame->keys[frame->count - 1])
                                  : snprintf(w->path + len, sizeof w->path - len, "[%u]", frame->count);
    len += (size_t)wrote; /* depth * (KEY_ROOM + 1) and the digits of counts fit */
  }
  must(len < sizeof w->path);
}

/* Keeps the line of the longest path that is the wanted one or encloses it. */
static void note_line(struct walk *w) {
  size_t len = strlen(w->path);
  if (w->wanted == NULL || strncmp(w->wanted, w->path, len) != 0) return;
  char next = w->wanted[len];
  bool encloses = next == '\0' || next == '.' || next == '[' || len == 0;
  if (encloses && (w->best_line == 0 || len > w->best_len)) {
    w->best_len = len;
    w->best_line = w->line;
  }
}

/* Our keys are words: anything else is unknown, and must not get into a path. */
static bool is_word(struct span key) {
  if (key.len == 0 || key.len >= KEY_ROOM) return false;
  for (size_t i = 0; i < key.len; i++)
    if (!ascii_is_alpha(key.at[i]) && !ascii_is_digit(key.at[i]) && key.at[i] != '_' && key.at[i] != '-') return false;
  return true;
}

static int take_key(struct walk *w, struct span key) {
  struct frame *frame = top(w);
  char quoted[REPORT_QUOTE_ROOM];
  if (!is_word(key)) return REFUSE(w, "unknown key %s", report_quote(quoted, key));
  if (frame->count == KEYS_MAX) return REFUSE(w, "unknown key %s: there are not that many", report_quote(quoted, key));
  for (unsigned i = 0; i < frame->count; i++)
    if (span_equal(span_of_text(frame->keys[i]), key)) return REFUSE(w, "the key %s is here a second time; give it once", report_quote(quoted, key));
  memcpy(frame->keys[frame->count], key.at, key.len);
  frame->keys[frame->count++][key.len] = '\0';
  frame->has_key = true;
  trace_path(w);
  note_line(w);
  return E_OK;
}

static void end_node(struct walk *w) {
  struct frame *frame = top(w);
  if (frame == NULL) return;
  if (frame->is_mapping) {
    frame->has_key = false;
  } else {
    frame->count++;
  }
}

static int take_scalar(struct walk *w, const yaml_event_t *event) {
  struct span value = span_of(event->data.scalar.value, event->data.scalar.length);
  if (event->data.scalar.anchor != NULL) return REFUSE(w, "anchors (&) are not used here; write the value out");
  if (event->data.scalar.tag != NULL) return REFUSE(w, "tags (!) are not used here; write the plain value");
  if (span_find(value, '\0') >= 0) return REFUSE(w, "has a NUL byte in it, which no value may have");
  if (wants_key(w)) return take_key(w, value);
  end_node(w);
  return E_OK;
}

static int push(struct walk *w, bool is_mapping, bool has_anchor, bool has_tag) {
  if (wants_key(w)) return REFUSE(w, "a key must be one word, not a list or a mapping");
  if (has_anchor) return REFUSE(w, "anchors (&) are not used here; write the value out");
  if (has_tag) return REFUSE(w, "tags (!) are not used here; write the plain value");
  if (w->depth == OUTLINE_DEPTH_MAX) return REFUSE(w, "nested too deeply: %d levels are the most", OUTLINE_DEPTH_MAX);
  struct frame *frame = &w->frames[w->depth++];
  frame->is_mapping = is_mapping;
  frame->has_key = false;
  frame->count = 0;
  return E_OK;
}

static int take_event(struct walk *w, const yaml_event_t *event) {
  w->line = (unsigned)event->start_mark.line + 1;
  if (event->type == YAML_DOCUMENT_START_EVENT) w->path[0] = '\0';
  switch (event->type) {
  case YAML_DOCUMENT_START_EVENT: return w->documents++ == 0 ? E_OK : REFUSE(w, "a second document begins here; a configuration is one");
  case YAML_ALIAS_EVENT: return REFUSE(w, "aliases (*) are not used here; write the value out, and put \"*\" in quotes");
  case YAML_SEQUENCE_END_EVENT:
  case YAML_MAPPING_END_EVENT:
    w->depth--;
    end_node(w);
    return E_OK;
  case YAML_SCALAR_EVENT:
  case YAML_SEQUENCE_START_EVENT:
  case YAML_MAPPING_START_EVENT: break;
  default: return E_OK;
  }
  trace_path(w);
  if (!wants_key(w)) note_line(w);
  if (event->type == YAML_SCALAR_EVENT) return take_scalar(w, event);
  if (event->type == YAML_SEQUENCE_START_EVENT)
    return push(w, false, event->data.sequence_start.anchor != NULL, event->data.sequence_start.tag != NULL);
  return push(w, true, event->data.mapping_start.anchor != NULL, event->data.mapping_start.tag != NULL);
}

static unsigned line_of_offset(struct span text, size_t offset) {
  unsigned line = 1;
  for (size_t i = 0; i < offset && i < text.len; i++) line += text.at[i] == '\n';
  return line;
}

/* Is the line (from 1) indented with a tab? The most frequent of mistakes, and the one whose message says least. */
static bool has_tab_indent(struct span text, unsigned line) {
  for (ptrdiff_t end; line > 1 && (end = span_find(text, '\n')) >= 0; line--) text = span_skip(text, (size_t)end + 1);
  while (text.len > 0 && text.at[0] == ' ') text = span_skip(text, 1);
  return text.len > 0 && text.at[0] == '\t';
}

static int report_parser(struct walk *w, const yaml_parser_t *parser, struct span text) {
  if (parser->error == YAML_MEMORY_ERROR) return E_NO_MEMORY;
  const char *problem = parser->problem != NULL ? parser->problem : "cannot be read";
  w->path[0] = '\0';
  if (parser->error == YAML_READER_ERROR) {
    w->line = line_of_offset(text, parser->problem_offset);
    return REFUSE(w, "this is no YAML: %s (write UTF-8 text)", problem);
  }
  w->line = (unsigned)parser->problem_mark.line + 1;
  if (has_tab_indent(text, w->line)) return REFUSE(w, "this is no YAML: the line is indented with a tab; use spaces");
  if (parser->context != NULL) return REFUSE(w, "this is no YAML: %s %s", problem, parser->context);
  return REFUSE(w, "this is no YAML: %s", problem);
}

static int run(struct walk *w, struct span text) {
  yaml_parser_t parser;
  yaml_event_t event;
  int error = E_OK;
  if (yaml_parser_initialize(&parser) == 0) return E_NO_MEMORY;
  yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&parser, text.at, text.len);
  for (bool more = true; more && error == E_OK;) {
    if (yaml_parser_parse(&parser, &event) == 0) {
      error = report_parser(w, &parser, text);
      break;
    }
    more = event.type != YAML_STREAM_END_EVENT;
    error = take_event(w, &event);
    yaml_event_delete(&event);
  }
  yaml_parser_delete(&parser);
  return error;
}

int outline_check(struct span text, const struct report *report) {
  ptrdiff_t nul = span_find(text, '\0');
  if (nul >= 0) return report_error(report, E_SYNTAX, line_of_offset(text, (size_t)nul), "", "has a NUL byte in it; write UTF-8 text");
  struct walk *w = calloc(1, sizeof *w);
  if (w == NULL) return E_NO_MEMORY;
  w->report = report;
  int error = run(w, text);
  free(w);
  return error;
}

unsigned outline_line(struct span text, const char *path) {
  struct walk *w = calloc(1, sizeof *w);
  if (w == NULL) return 0;
  w->wanted = path;
  unsigned line = run(w, text) == E_OK ? w->best_line : 0;
  free(w);
  return line > 0 ? line : 1;
}
