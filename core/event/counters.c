/* Names and help texts of the counters, and their Prometheus form (text format 0.0.4: HELP, TYPE, value; one series each, no labels). */
#include "core/event/counters.h"

/* Without the prefix and, for counters, without the suffix "_total". No backslash and no newline in the help: they would need escaping. */
static const struct {
  const char *name, *help;
} series[COUNTER_COUNT] = {
    [COUNT_SESSIONS] = {"sessions", "SMTP connections accepted"},
    [COUNT_SESSIONS_REFUSED] = {"sessions_refused",
                                "SMTP connections answered with 421 because no slot was free, or because of the limits of their client"},
    [COUNT_SESSIONS_LISTED] = {"sessions_listed",
                               "SMTP sessions whose client is on DNS lists, so that its recipients are refused unless it authenticates"},
    [COUNT_TLS_SESSIONS] = {"sessions_tls", "SMTP sessions with TLS"},
    [COUNT_TLS_RESUMED] = {"sessions_tls_resumed", "... whose handshake resumed an earlier one"},
    [COUNT_TLS_FAILED] = {"sessions_tls_failed",
                          "SMTP sessions that ended because of their TLS: no handshake came about, or the protocol was broken"},
    [COUNT_AUTHENTICATED] = {"sessions_authenticated", "Sessions whose user has authenticated"},
    [COUNT_AUTH_FAILED] = {"authentications_failed", "Authentications that failed: a wrong name or password, or one that is locked out"},
    [COUNT_MESSAGES_RECEIVED] = {"messages_received", "Messages answered with 250"},
    [COUNT_BYTES_RECEIVED] = {"bytes_received", "Bytes of content of the messages received"},
    [COUNT_RECIPIENTS_RECEIVED] = {"recipients_received", "Recipients of the messages received"},
    [COUNT_MESSAGES_REJECTED] = {"messages_rejected", "Messages refused, for good or for now: at MAIL, at DATA, or at their end"},
    [COUNT_CONNECTIONS] = {"connections", "Connections to other hosts that were established"},
    [COUNT_CONNECTIONS_FAILED] = {"connections_failed", "Connections to other hosts that failed before a transaction could begin"},
    [COUNT_CONNECTIONS_TLS] = {"connections_tls", "Connections to other hosts with TLS"},
    [COUNT_CONNECTIONS_TLS_RESUMED] = {"connections_tls_resumed", "... whose handshake resumed an earlier one"},
    [COUNT_CONNECTIONS_TLS_FAILED] = {"connections_tls_failed",
                                      "Connections to other hosts whose TLS did not come about, though both sides wanted it"},
    [COUNT_TRANSACTIONS] = {"transactions", "Transactions begun with other hosts"},
    [COUNT_BYTES_SENT] = {"bytes_sent", "Bytes of content sent to other hosts"},
    [COUNT_DELIVERED] = {"delivered", "Recipients delivered"},
    [COUNT_DEFERRED] = {"deferred", "Attempts that ended in a later try, by recipient"},
    [COUNT_BOUNCED] = {"bounced", "Recipients that failed for good"},
    [COUNT_EXPIRED] = {"expired", "Recipients given up because of the message's age"},
    [COUNT_ADMIN_BOUNCED] = {"admin_bounced", "Recipients an operator gave up"},
    [COUNT_DSN_SENT] = {"dsn_sent", "Reports (DSN) given to the queue for senders"},
    [COUNT_DSN_SUPPRESSED] = {"dsn_suppressed", "Reports not sent: more than dsn.rate to one sender, or (of delay and success) no room"},
    [COUNT_MAYBE_DUPLICATE] = {"maybe_duplicate", "Recipients deferred because the connection was lost after the final dot"},
    [COUNT_DNS_QUERIES] = {"dns_queries", "DNS queries sent"},
    [COUNT_DNS_CACHE_HITS] = {"dns_cache_hits", "MX questions answered from the cache"},
    [COUNT_DNS_CACHE_MISSES] = {"dns_cache_misses", "MX questions that had to be asked"},
    [COUNT_DNS_TIMEOUTS] = {"dns_timeouts", "DNS queries that no server answered in time"},
    [COUNT_DNS_LIST_QUESTIONS] = {"dns_list_questions", "Questions about clients to DNS lists"},
    [COUNT_DNS_LIST_LISTED] = {"dns_list_listed", "... by whose answers the client is listed"},
    [COUNT_DNS_LIST_UNANSWERED] = {"dns_list_unanswered",
                                   "Lists that counted as if the client was not on them: no answer in time, or one that means nothing"},
    [COUNT_DNS_LIST_REFUSED] = {"dns_list_refused", "Recipients refused because DNS lists have the client"},
    [COUNT_SPOOL_COMMITS] = {"spool_commits", "Group commits of the spool"},
    [COUNT_SPOOL_BYTES] = {"spool_bytes", "Bytes written to the spool"},
    [COUNT_EVENTS] = {"events", "Events that happened"},
    [COUNT_EVENTS_LOST] = {"events_lost", "Events that could not be written"},
    [COUNT_HANDED_OVER] = {"handed_over", "Jobs given to another shard"},
    [COUNT_LOOP_TURNS] = {"loop_turns", "Turns of the shards' loops"},
    [GAUGE_SESSIONS] = {"sessions_open", "SMTP sessions now open"},
    [GAUGE_CONNECTIONS] = {"connections_open", "Connections to other hosts now open"},
    [GAUGE_SITES] = {"sites", "Sites now known"},
    [GAUGE_QUEUED_MESSAGES] = {"queued_messages", "Messages with a recipient that has no outcome yet"},
    [GAUGE_UNLOADED_MESSAGES] = {"queue_messages_unloaded",
                                 "Messages on disk that found no room in memory at the start and are taken up when there is some"},
    [GAUGE_READY_RECIPIENTS] = {"ready_recipients", "Recipients that wait for a connection"},
    [GAUGE_DEFERRED_RECIPIENTS] = {"deferred_recipients", "Recipients that wait for their next try"},
    [GAUGE_HELD_RECIPIENTS] = {"held_recipients", "Deferred recipients that wait for the end of a suspension"},
    [GAUGE_BODY_BYTES] = {"body_bytes", "Memory that holds content of messages"},
    [GAUGE_SPOOL_SEGMENTS] = {"spool_segments", "Segments of the spool"},
    [GAUGE_SPOOL_DISK_BYTES] = {"spool_disk_bytes", "Disk space of the spool"},
    [GAUGE_SPOOL_FAILED] = {"spool_failed", "Shards whose spool failed for good"},
    [GAUGE_SPOOL_FULL] = {"spool_full", "Shards whose spool has no room now"},
    [GAUGE_QUEUE_FULL] = {"queue_full", "Shards that have their part of limits.messages now"},
    [GAUGE_READY] = {"shards_ready", "Shards that run"},
};

static bool is_gauge(enum counter which) { return which >= GAUGE_SESSIONS; }

static void format_name(enum counter which, struct fmt *out) {
  fmt_text(out, "ringpost_");
  fmt_text(out, series[which].name);
  if (!is_gauge(which)) fmt_text(out, "_total");
}

static void format_series(enum counter which, uint64_t sum, struct fmt *out) {
  fmt_text(out, "# HELP ");
  format_name(which, out);
  fmt_char(out, ' ');
  fmt_text(out, series[which].help);
  fmt_text(out, "\n# TYPE ");
  format_name(which, out);
  fmt_text(out, is_gauge(which) ? " gauge\n" : " counter\n");
  format_name(which, out);
  fmt_char(out, ' ');
  fmt_u64(out, sum);
  fmt_char(out, '\n');
}

void counters_format(const struct counters *const *shards, unsigned count, struct fmt *out) {
  for (unsigned which = 0; which < COUNTER_COUNT; which++) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++) sum += count_get(shards[i], (enum counter)which);
    format_series((enum counter)which, sum, out);
  }
}
