#include "core/conf/report.h"

#include <stdarg.h>
#include <stdio.h>

enum { NAME_MAX_SHOWN = 120, PATH_MAX_SHOWN = 80, TEXT_ROOM = 400 };

const char *report_quote(char room[REPORT_QUOTE_ROOM], struct span bytes) {
  static const char cut[] = "...'";
  struct fmt out = fmt_over(room, REPORT_QUOTE_ROOM - sizeof cut);
  size_t shown = 0;
  fmt_char(&out, '\'');
  for (; shown < bytes.len && fmt_room(&out) >= sizeof "\\xHH"; shown++) fmt_escaped(&out, span_of(bytes.at + shown, 1));
  out.cap = REPORT_QUOTE_ROOM - 1;
  fmt_text(&out, shown < bytes.len ? cut : "'");
  room[out.len] = '\0';
  return room;
}

/* Of a long path to the file the end says most. */
static void write_name(struct fmt *out, const char *name) {
  struct span whole = span_of_text(name);
  if (whole.len > NAME_MAX_SHOWN) {
    fmt_text(out, "...");
    whole = span_skip(whole, whole.len - NAME_MAX_SHOWN);
  }
  for (size_t i = 0; i < whole.len; i++) fmt_char(out, (char)(whole.at[i] < ' ' || whole.at[i] == 0x7f ? '?' : whole.at[i]));
}

int report_error(const struct report *report, int error, unsigned line, const char *path, const char *format, ...) {
  char text[TEXT_ROOM];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  write_name(report->why, report->name);
  if (line > 0) {
    fmt_char(report->why, ':');
    fmt_u64(report->why, line);
  }
  fmt_text(report->why, ": ");
  if (path[0] != '\0') {
    fmt_escaped(report->why, span_first(span_of_text(path), PATH_MAX_SHOWN));
    fmt_text(report->why, ": ");
  }
  fmt_put(report->why, span_first(span_of_text(text), fmt_room(report->why)));
  return error;
}
