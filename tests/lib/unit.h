/*
 * unit: what every Check program in tests/unit shares: int main() { return unit_main("core/map", cases, count); }
 */
#ifndef TESTS_LIB_UNIT_H
#define TESTS_LIB_UNIT_H

#include <check.h>

/* For inner loops: Check's own assertions cost a write to a pipe each, even when they hold. */
#define ck_quick(cond) ((cond) ? (void)0 : ck_abort_msg("Assertion '%s' failed", #cond))
#define ck_quick_msg(cond, ...) ((cond) ? (void)0 : ck_abort_msg(__VA_ARGS__))

/*
 * Runs the test cases as one suite; prints Check's closing line; returns the exit status. All in one process: looking for leaks at the end of a process takes
 * longer than most tests. The other is for tests that end with a signal, or need everything static as it was at the start. CK_FORK=yes or no overrides both.
 */
int unit_main(const char *name, TCase *const *cases, unsigned count);
int unit_main_forked(const char *name, TCase *const *cases, unsigned count);

#endif
