/*
 * operator: somebody who looks at the relay and acts on it, through the API of net/control as `ringpost ctl` does, and by its configuration file: a fiber beside the shards, in each life of
 * the program. Some of what is done is nonsense. For a while; then all that is suspended is resumed, and there is nothing but lists.
 */
#ifndef TESTS_SIM_OPERATOR_H
#define TESTS_SIM_OPERATOR_H

#include "net/control/control.h"

enum act { ACT_LIST, ACT_RETRY, ACT_BOUNCE, ACT_SUSPEND, ACT_RESUME, ACT_RELOAD, ACT_NONSENSE, ACTS };

struct operator_plan {
  uint64_t acts_ns;                     /* so long from operator_open on; 0: there is no operator */
  unsigned acts_max;                    /* and so many */
  uint64_t pause_low_ns, pause_high_ns; /* between two of them */
  unsigned weight[ACTS];                /* how often each is done, in proportion */
  unsigned domains;                     /* of the zone */
  bool disk_fails;                      /* then what is suspended may not be kept */
};

/* The plan is kept, by reference. */
void operator_open(const struct operator_plan *plan);

struct operator_life {
  struct control *control;
  bool first;            /* in a later one recipients that have ended may be missing in lists */
  const bool *stopping;  /* the program is told to stop: then, and not before, the API may say so */
  void (*hang_up)(void); /* SIGHUP */
};
/* The program takes requests from now on. */
void operator_begin(const struct operator_life *life);
/* No more requests, from a fiber: returns when the last is answered. */
void operator_end(void);
/* All mail has gone: once more the operator resumes all, and looks: nothing may be left in any list. Did that happen? True without an operator. */
void operator_look_last(void);
bool operator_has_looked(void);
/* The program was killed, and the operator's fiber with it. */
void operator_killed(void);

struct operator_sums {
  unsigned requests, listed;
};
const struct operator_sums *operator_sums(void);

#endif
