/*
 * orders: what the operator (operator.h) was promised by the answers of the API, held against what happens: docs/API.md. What is suspended is not begun, whatever is killed in
 * between; what was bounced by an order is so once, and by this order alone.
 */
#ifndef TESTS_SIM_ORDERS_H
#define TESTS_SIM_ORDERS_H

#include "core/base/span.h"
#include "tests/sim/settings.h"

enum scope { SCOPE_DOMAIN, SCOPE_SITE, SCOPE_ALL, SCOPE_MESSAGE };

#define ORDERS_NAME_MAX 120
struct target {
  enum scope scope;
  char name[ORDERS_NAME_MAX]; /* of a domain, or of a site as the relay calls it; the id of a message */
  unsigned message;           /* its number in the ledger; ORDERS_REPORT: a report to a sender */
};
#define ORDERS_REPORT UINT32_MAX

/* Who the mail is for: what is behind the @, and a message's number, or ORDERS_REPORT. */
struct addressee {
  struct span domain;
  unsigned message;
};

/* mx_hosts: of each site. */
void orders_open(unsigned mx_hosts);
/* The name of the site of domain number `number`. */
void orders_site_name(unsigned number, char name[ORDERS_NAME_MAX]);
bool orders_covers(const struct target *target, const struct addressee *addressee);

/* ---- suspensions ---- */
/* A request about it is under way: for now nothing is sure. SCOPE_ALL with `every`: about all there are. */
void orders_doubt(const struct target *target, bool every);
/* It is in force, until that time on the wall (0: until it is resumed). `kept`: also after a restart. */
void orders_suspended(const struct target *target, uint64_t until_ms, bool kept);
/* One of those that are in force, by chance. False: none is. */
bool orders_choose(struct target *target);
/* It is in force, and that until it is resumed. */
bool orders_is_suspended(const struct target *target);
/* The list of all there are, as one answer has it: each; then the end of it. One that should be there and is not is a fault. `new_life`: others may have come of what was never answered. */
void orders_listed(const struct target *target, uint64_t until_ms);
void orders_list_ends(bool new_life);
unsigned orders_suspensions(void);
/* A host is asked for that recipient in a session, and in a transaction, that began then: a fault if that must not be. */
void orders_check(const struct addressee *addressee, uint64_t session_ns, uint64_t begun_ns);
/* The clock on the wall was set. */
void orders_clock(void);
/* The program ended: what was not kept is not sure any more. */
void orders_life_ends(void);

/* ---- bounces ---- */
/* The number of the order, which is in its reason. */
unsigned orders_bounce(const struct target *target, bool quiet);
#define ORDERS_REASON "order number "
/* Answered: so many. */
void orders_bounced(unsigned order, uint64_t count);
/* An AdminBounce of that recipient, in an event. The time when the order was answered; 0: it was not. `begun_ns`: of the message. */
uint64_t orders_bounce_event(struct span line, const struct addressee *addressee, uint64_t begun_ns, bool *quiet);
/* Such an order was given. */
enum orders_kind { ORDERS_ANY, ORDERS_LOUD, ORDERS_QUIET };
bool orders_may_bounce(const struct addressee *addressee, enum orders_kind kind);
/* All events are read. `exact`: none was lost, none came twice. */
void orders_close(bool exact);

struct orders_sums {
  unsigned suspended, bounces, bounced, checked;
};
const struct orders_sums *orders_sums(void);

#endif
