/*
 * must: assertions that stay on in release builds.
 *
 * must(cond) states an invariant of our own code. It is never used for what came from the network, the disk or a
 * person: those get an error. On failure the process prints file, line and condition to stderr and aborts, because a
 * relay that no longer knows its own state must not go on answering 250.
 */
#ifndef CORE_BASE_MUST_H
#define CORE_BASE_MUST_H

#define must(cond) ((cond) ? (void)0 : must_failed(__FILE__, __LINE__, #cond))

/* Marks a function whose result the caller has to look at. */
#define must_check __attribute__((warn_unused_result))

#define likely(cond) __builtin_expect(!!(cond), 1)
#define unlikely(cond) __builtin_expect(!!(cond), 0)

__attribute__((noreturn, cold)) void must_failed(const char *file, int line, const char *cond);

#endif
