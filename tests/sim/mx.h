/*
 * mx: the mail exchangers of the world, with habits good and bad. What they take goes to the ledger, and the ledger's fates are what they answer.
 */
#ifndef TESTS_SIM_MX_H
#define TESTS_SIM_MX_H

#include "bench/lib/zone.h"

/* Each happens once in so many times; 0: never. */
struct mx_habits {
  unsigned refuse_connection; /* reset at once */
  unsigned greeting_421, greeting_silence;
  unsigned mail_4xx, rcpt_4xx, data_4xx, final_4xx, any_421;
  unsigned cut, reset;                                    /* instead of a reply */
  unsigned taken_and_cut;                                 /* the message is taken, the reply never comes */
  unsigned untaken_and_cut;                               /* ... or it is not taken, and no reply comes either */
  unsigned cut_in_content;                                /* in the middle of it, with a 421 or without a word */
  unsigned extra_reply;                                   /* a 451 nobody asked for, before another one, and then the end */
  unsigned mute;                                          /* a reply is missing, and so is all that would follow */
  unsigned reads_slowly;                                  /* does not read for a while */
  unsigned down;                                          /* of a host, per second: connections are refused, or nothing comes of them, for a while */
  unsigned greylist;                                      /* recipients are refused for some seconds */
  unsigned drip;                                          /* sessions whose replies come byte by byte */
  unsigned no_pipelining, no_chunking, helo_only, limits; /* sessions that do not offer it, or offer RFC 9422 LIMITS */
  uint64_t reply_low_ns, reply_high_ns;
};

/* Hosts for every address of the zone, which is borrowed, and one more behind them, for routes. More of the relay than its settings and the orders of its operator allow is a fault. */
void mx_open(const struct zone *zone);
void mx_set_habits(const struct mx_habits *habits);

struct mx_sums {
  uint64_t sessions, messages, most_at_once;
};
const struct mx_sums *mx_sums(void);

#endif
