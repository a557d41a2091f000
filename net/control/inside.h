/*
 * inside: what the files of net/control share. For them only.
 */
#ifndef NET_CONTROL_INSIDE_H
#define NET_CONTROL_INSIDE_H

#include <jansson.h>
#include <pthread.h>

#include "core/conf/system.h"
#include "core/shard/errand.h"
#include "dns/mx.h"
#include "net/control/control.h"
#include "net/out/operate.h"

/* ---- what an operation is about ---- */
enum target_kind { TARGET_INVALID = 0, TARGET_ALL, TARGET_DOMAIN, TARGET_SITE, TARGET_MESSAGE };
#define TARGET_DOMAIN_MAX 255
struct target_of {
  enum target_kind kind;
  char name[MX_SITE_NAME_MAX + 1]; /* lower case: of a domain or site */
  uint64_t id;                     /* of a message */
};

struct suspension {
  struct suspension *next;
  struct target_of target;
  char *reason;                /* owned; may be empty */
  uint64_t since_ms, until_ms; /* wall clock; until 0: until it is resumed */
};

struct control {
  struct control_options o;
  struct relay *const *relays;
  pthread_mutex_t lock; /* one operation at a time */
  struct suspension *suspensions;
  bool unsaved;             /* they are not on disk as they are */
  struct holding *holdings; /* one for each shard; made once: what is held can be let go of however little memory there is */
  struct release *releases;
};

/* ---- control.c ---- */
/* A task of each shard begins with this. */
struct asked {
  struct errand errand;
  struct control *control;
  unsigned shard;
};
/*
 * Has `step` done on every shard, with tasks[shard] (each of `size` bytes, beginning with struct asked) and the shard's relay as context; waits until all
 * are done. False: the relay is stopping.
 */
must_check bool control_ask_all(struct control *control, errand_step step, void *tasks, size_t size);

/*
 * Recipient number `number` of those that a shard tries again at an operator's word: the first at once, the others spread over the time they will
 * take, for what is ready takes more memory than what waits.
 */
void control_retry(struct relay *relay, struct message *message, unsigned recipient, uint64_t number);

/* Text of any bytes as JSON: what is no UTF-8 becomes '?'. NULL text: null. */
json_t *json_text(const char *text);
json_t *json_span(struct span text);
json_t *json_time(uint64_t wall_ms); /* seconds since 1970, with milliseconds */
json_t *json_id(uint64_t id);        /* as in events: 16 hexadecimal digits */
must_check bool parse_id(struct span text, uint64_t *id);

/* Exactly one of domain, site, message, all, in an order or a suspension; other keys are not looked at. False: `why` says what is wrong. */
must_check bool read_target(const json_t *json, struct target_of *target, struct fmt *why);
/* The first key of an object that is not one of `known` (the last is NULL). NULL: all are. */
const char *unknown_key(const json_t *json, const char *const *known);
/* How JSON is written: times are milliseconds, and doubles have no more digits than these need. */
#define JSON_HOW (JSON_ENSURE_ASCII | JSON_REAL_PRECISION(13))

/* An answer of its own: {"error": ...}. */
struct reply {
  unsigned status;
  json_t *json; /* NULL: out of memory */
};
__attribute__((format(printf, 2, 3))) struct reply reply_error(unsigned status, const char *format, ...);
struct reply reply_ok(json_t *json);
/* There is no such message; or it is one of those that wait on disk. */
struct reply reply_no_message(bool is_on_disk);
/* Of all shards. */
uint64_t control_sum(const struct control *control, enum counter which);

/* ---- find.c: a message by its id, in steps, for the steps of errands ---- */
struct finder {
  uint64_t id;
  bool begun, on_disk;     /* on_disk: it is one of those that have no place in memory yet */
  uint32_t cursor;         /* in these */
  struct message *message; /* it is in memory, and stays until finder_end */
};
/* True: it is over, one way or the other. */
must_check bool finder_step(struct finder *finder, struct relay *relay);
void finder_end(struct finder *finder, struct relay *relay);

/* ---- the operations: each with the lock held ---- */
struct reply list_queues(struct control *control, bool by_site, unsigned limit);
struct reply show_domain(struct control *control, struct span domain, unsigned limit);
struct reply show_message(struct control *control, uint64_t id);
struct reply act_retry(struct control *control, const struct target_of *target);
struct reply act_bounce(struct control *control, const struct target_of *target, const char *reason, bool quiet);
struct reply suspend_begin(struct control *control, const struct target_of *target, const char *reason, uint64_t for_ms);
struct reply suspend_end(struct control *control, const struct target_of *target);
struct reply suspend_list(const struct control *control);

/* ---- suspend.c ---- */
/* The one that is in force for exactly this; or that mail for this domain and site is under. NULL: none. */
const struct suspension *suspension_of(const struct control *control, const struct target_of *target);
const struct suspension *suspension_over(const struct control *control, const char *domain, const char *site);
/*
 * On all shards, without a word to anybody: nothing is begun there (of a message, too), and what was ready is on its way home when this returns. Or begun
 * again (what was kept is then tried). False: the relay is stopping, or out of memory.
 */
bool suspend_hold(struct control *control, const struct target_of *target, bool held);
bool suspend_release(struct control *control);
/* What asking the shards takes, once for all. False: no memory; suspend_close is due all the same. */
must_check bool suspend_open(struct control *control);
void suspend_close(struct control *control);
/* From the file; then to the shards. */
must_check int suspend_load(struct control *control, struct fmt *why);
void suspend_start(struct control *control);
void suspend_expire(struct control *control);
/* Another configuration is in use: what is suspended ends when that says, and what a route leads elsewhere now may go. */
void suspend_reconsider(struct control *control);
/* To the file; asks no shard. */
int suspend_save(struct control *control);

#endif
