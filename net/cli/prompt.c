#include "net/cli/prompt.h"

#include <stdio.h>
#include <string.h>
#include <termios.h>

static const char too_long[] = "the password is too long";

static const char *read_line(FILE *from, char *room, size_t size, size_t *len) {
  *len = 0;
  for (int c; (c = getc(from)) != EOF && c != '\n';) {
    if (*len == size) return too_long;
    room[(*len)++] = (char)c;
  }
  return ferror(from) ? "the password cannot be read" : NULL;
}

/* Without echo, and without signals by its keys: an interrupted program would leave the terminal without echo. What these keys write is no password either. */
static const char *ask(FILE *terminal, const char *question, char *room, size_t size, size_t *len) {
  struct termios before, silent;
  if (tcgetattr(fileno(terminal), &before) != 0) return "this terminal cannot be asked for a password";
  silent = before;
  silent.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
  if (tcsetattr(fileno(terminal), TCSAFLUSH, &silent) != 0) return "this terminal cannot be asked for a password";
  fputs(question, terminal); /* after the flush: an answer that comes at once is not thrown away */
  fflush(terminal);
  const char *wrong = read_line(terminal, room, size, len);
  tcsetattr(fileno(terminal), TCSAFLUSH, &before);
  fputs("\n", terminal);
  return wrong;
}

static const char *ask_twice(FILE *terminal, char *room, size_t size, size_t *len) {
  char again[1024];
  size_t again_len;
  const char *wrong = ask(terminal, "Password: ", room, size, len);
  if (wrong == NULL) wrong = ask(terminal, "Again: ", again, sizeof again, &again_len);
  if (wrong == NULL && (again_len != *len || memcmp(again, room, again_len) != 0)) wrong = "that was not the same";
  explicit_bzero(again, sizeof again);
  return wrong;
}

const char *prompt_password(bool from_stdin, char *room, size_t size, size_t *len) {
  if (from_stdin) {
    setvbuf(stdin, NULL, _IONBF, 0); /* no copy of it stays in a buffer */
    return read_line(stdin, room, size, len);
  }
  FILE *terminal = fopen("/dev/tty", "r+e");
  if (terminal == NULL) return "there is no terminal to ask for the password; use --password-stdin";
  setvbuf(terminal, NULL, _IONBF, 0);
  const char *wrong = ask_twice(terminal, room, size, len);
  fclose(terminal);
  return wrong;
}
