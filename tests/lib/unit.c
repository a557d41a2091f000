#include "tests/lib/unit.h"

#include <stdlib.h>

static int run(const char *name, TCase *const *cases, unsigned count, enum fork_status fork_status) {
  Suite *suite = suite_create(name);
  for (unsigned i = 0; i < count; i++) {
    tcase_set_timeout(cases[i], 60);
    suite_add_tcase(suite, cases[i]);
  }
  SRunner *runner = srunner_create(suite);
  if (getenv("CK_FORK") == NULL) srunner_set_fork_status(runner, fork_status);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int unit_main(const char *name, TCase *const *cases, unsigned count) { return run(name, cases, count, CK_NOFORK); }
int unit_main_forked(const char *name, TCase *const *cases, unsigned count) { return run(name, cases, count, CK_FORK); }
