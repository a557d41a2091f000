/*
 * keep: the counts of today and of the days that are still to be reported, and how far that is, in a file, so that a restart loses neither. May block: not on a shard.
 *
 * The file is JSON. It is taken in with the same suspicion as what comes from the net: what is no good is left out, and counted; what is too old is left out.
 */
#ifndef NET_TLSRPT_KEEP_H
#define NET_TLSRPT_KEEP_H

#include "net/tlsrpt/sender.h"

#define TLSRPT_KEEP_DAYS 7 /* a day that ended longer ago is not reported any more */

/* In place of what is there, atomically and synced. */
must_check int tlsrpt_keep_save(const char *path, const struct tlsrpt_day *today, const struct tlsrpt_sender *sender);
/* Into today (whose number is set) and an empty sender. Without a file nothing. E_SYNTAX: it is none of ours, nothing was taken; or what the system says. */
must_check int tlsrpt_keep_load(const char *path, struct tlsrpt_day *today, struct tlsrpt_sender *sender, uint64_t now_ms, unsigned *left_out);

/* The same as text, for the caller to free; NULL: no memory. */
char *tlsrpt_keep_write(const struct tlsrpt_day *today, const struct tlsrpt_sender *sender);
must_check int tlsrpt_keep_read(struct span text, struct tlsrpt_day *today, struct tlsrpt_sender *sender, uint64_t now_ms, unsigned *left_out);

#endif
