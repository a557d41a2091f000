/*
 * unit: what every Check program in tests/unit shares: int main() { return unit_main("core/map", cases, count); }
 */
#ifndef TESTS_LIB_UNIT_H
#define TESTS_LIB_UNIT_H

#include <check.h>

/* Runs the test cases as one suite; prints Check's closing line; returns the exit status. CK_FORK=no works for debugging. */
int unit_main(const char *name, TCase *const *cases, unsigned count);

#endif
