/*
 * canary: faults that are put in on purpose, one at a time, to see that the simulator finds them (tests/sim/canaries.sh). A file that has one
 * is compiled with -DCANARY=NAME for that; in the program itself there are none.
 */
#ifndef CORE_BASE_CANARY_H
#define CORE_BASE_CANARY_H

#include <stdbool.h>

enum canary {
  CANARY_UNSYNCED = 1,    /* a message is answered 250 when it is written, not when it is synced */
  CANARY_SKIPPED_OUTCOME, /* that a recipient was delivered to is not recorded */
  CANARY_LOST_WAKEUP,     /* a letter to a shard that sleeps does not wake it */
  CANARY_LIMIT_BY_ONE,    /* one connection more than a site may have */
  CANARY_TORN_RECORD,     /* replay believes a record's length without looking at its bytes */
  CANARY_FAILED_COMMIT,   /* a message is answered 250 though its commit failed */
  CANARY_ADOPTED,         /* the last recipient of a message with several is dropped when its spool is adopted */
  CANARY_LOST_REPORT,     /* a failure ends without its report */
  CANARY_REPORT_SENDER,   /* a report does not come from the null sender */
  CANARY_CLOCK,           /* who waits goes by the clock on the wall alone */
  CANARY_ANY_ID,          /* an answer of DNS is believed whatever its id is */
  CANARY_RESUMED,         /* a start does not hold what was suspended */
  CANARY_BOUNCED_AGAIN,   /* that the operator gave a recipient up is not recorded */
  CANARY_OLD_LIMIT,       /* a reload leaves the old limits on all shards but the first */
};

#ifdef CANARY
#define canary(which) ((which) == CANARY)
#else
#define canary(which) false
#endif

#endif
