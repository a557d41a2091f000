#include "core/base/must.h"

#include <stdio.h>
#include <stdlib.h>

void must_failed(const char *file, int line, const char *cond) {
  fprintf(stderr, "ringpost: %s:%d: invariant broken: %s\n", file, line, cond);
  abort();
}
