/* Runs a fuzz target over the files and directories named on the command line: the corpus and past crashes, in the ordinary test run. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static unsigned runs;

static int replay(const char *path) {
  struct stat status;
  if (stat(path, &status) != 0) {
    perror(path);
    return 1;
  }
  if (S_ISDIR(status.st_mode)) {
    DIR *dir = opendir(path);
    int failed = dir == NULL;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
      char inner[4096];
      if (entry->d_name[0] == '.') continue;
      snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
      failed |= replay(inner);
    }
    if (dir != NULL) closedir(dir);
    return failed;
  }
  FILE *file = fopen(path, "rb");
  size_t len = (size_t)status.st_size;
  uint8_t *bytes = malloc(len + 1); /* exactly as long as the input but for empty ones, so that ASan sees an overrun */
  uint8_t *exact = len > 0 ? realloc(bytes, len) : bytes;
  if (file == NULL || exact == NULL || fread(exact, 1, len, file) != len) {
    perror(path);
    return 1;
  }
  fclose(file);
  fprintf(stderr, "%s\r", path); /* the last line names the input that crashed */
  LLVMFuzzerTestOneInput(exact, len);
  free(exact);
  runs++;
  return 0;
}

int main(int argc, char **argv) {
  int failed = 0;
  for (int i = 1; i < argc; i++) failed |= replay(argv[i]);
  fprintf(stderr, "\n");
  printf("replayed %u inputs\n", runs);
  return failed || runs == 0;
}
