/*
 * settings: the relay's configuration file on the simulated disk, as its operator writes it: at first, at each start, and while the relay runs. Knows which limits may be in force
 * at a time: those of the file that was read last and, for a while after a reload, those before it.
 */
#ifndef TESTS_SIM_SETTINGS_H
#define TESTS_SIM_SETTINGS_H

#include "core/conf/conf.h"

#define SETTINGS_PATH "/etc/ringpost.yaml"
/* The first sites may have limits of their own. */
#define SETTINGS_SPECIAL 2

struct limits { /* more is a fault */
  unsigned connections_per_site, messages_per_connection;
};

struct settings {
  struct limits limits, special[SETTINGS_SPECIAL]; /* special: zeros: as the others */
  unsigned retry_initial_ms, retry_max_ms;
  bool second_door;       /* a second listener */
  bool routed;            /* domains that take no mail, or are not found, go to a host of their own */
  unsigned dns_timeout_s; /* needs a restart */
  bool other_name;        /* likewise */
};

/* What never changes. */
struct settings_fixed {
  enum conf_durability durability;
  uint64_t memory_bytes, segment_bytes; /* segments are smaller than a user may have them: to see many of them */
  unsigned max_age_s;
  uint32_t route_address; /* of that host */
  bool strangers;         /* clients are from anywhere, and DNS lists are asked about them (dns.h) */
  bool by_hosts;          /* the first site's entry is for its hosts, not for its domain: mail for other names may go there too */
};

enum wrong {
  WRONG_NOT,
  WRONG_RESTART, /* takes a restart */
  WRONG_KEY,
  WRONG_VALUE,
  WRONG_TORN,    /* the file ends somewhere within it */
  WRONG_ADDRESS, /* a listener on an address of somebody else's */
  WRONGS,
};

/* Both are copied. The file is not written before settings_begin_life. */
void settings_open(const struct settings *first, const struct settings_fixed *fixed);
bool settings_strangers(void);
/* Those in force, as the relay says. */
const struct settings *settings_now(void);

/* The operator writes the file, which takes effect when it is read. `settings` are what it says but for what is wrong with it. */
void settings_write(const struct settings *settings, enum wrong wrong);

/* The relay is started with so many shards: what is wrong with the file is mended before, and what it says is in force. */
void settings_begin_life(unsigned shards);
/* The relay reads the file again now; `running`: it is not stopping. Then: what came of that. Anything else than the file deserves is a fault. */
void settings_taking(void);
void settings_taken(int error, struct span why, bool running);

/* The most that may be now. `since_ns`: when the connection began. */
unsigned settings_connections(unsigned site);
unsigned settings_messages(unsigned site, uint64_t since_ns);
/* Of the listener that is always there, and of the second one. May the second be there now? */
#define SETTINGS_DOOR 25
#define SETTINGS_SECOND_DOOR 2525
bool settings_second_door(void);

struct settings_sums {
  unsigned reloads, refused;
};
const struct settings_sums *settings_sums(void);

#endif
