"""The workloads of run.py, by name."""
import collections

import harness

# what it is, messages for source, options of source, domains, shards of the relay (0: as by --shards), round trips of the floor to compare with,
# relays where --relays does not say, how much of the messages goes through each before it is measured, delivery.connections_per_site, idle sessions,
# the workload it is held against in the same rounds, what the ratio of their CPU per message may be at most and that of their messages/s at least,
# rules of the sink (which may be why mail of the second source never arrives), and options of a second source, but for --messages: which share of the first one's;
# where there is TLS ("in", or "both" legs), what each message has one of that there is none of in the other workload, options of hostile clients besides, and what the
# ratio of injection latencies to the other workload may be at most
Workload = collections.namedtuple(
    "Workload",
    "what messages source domains shards trips relays warm_up connections idle against cpu_most rate_least rules besides besides_share tls extra hostile latency_most",
    defaults=(0, 1, ("ringpost",), 0, 10, 0, None, None, None, (), None, 0, None, None, (), None),
)


def content(size, pipelining):
    return ["--size", size, "--pipelining", pipelining]


SLOWER_MOST = 1.05  # what bad sites may cost the good ones, and hostile clients good mail
# of d00100.test to d00102.test; before RCPT a site is known by its address only
BAD_SITES = [
    "stage=rcpt rcpt=*@d00100.test reply=451 4.7.1 come back later",
    "stage=connect host=%s delay=1h" % harness.exchanger(101),
    "stage=connect host=%s drip=1s" % harness.exchanger(102),
]
BESIDES = content("4KiB", "message") + ["--sessions", "3", "--domains", "3", "--domain-pattern", "d0010%d.test"]

MESSAGE_4K = content("4KiB", "message")
STARTTLS = ["--tls", "starttls"]
EACH_A_SESSION = content("4KiB", "command") + ["--messages-per-session", "1"]
STEADY = MESSAGE_4K + STARTTLS + ["--rate", "1000", "--settle", "2s"]
# half-open ones stay as long as the relay lets them by default (tls.handshake_timeout): with 10,000 of them, 333 others come each second
HOSTILE = ["--half-open", "10000", "--dribble", "100", "--garbage", "100", "--vanish", "50", "--renegotiate", "50", "--rate", "500"]
HOSTILE_DESCRIPTORS = 12000  # of the relay: those, the good ones' sessions, connections out

WORKLOADS = {
    "a-message": Workload("4 KiB, 100 domains, pipelining message", 100000, content("4KiB", "message"), 100),
    "a-command": Workload("4 KiB, 100 domains, pipelining command", 100000, content("4KiB", "command"), 100, trips=2),
    "b-message": Workload("50 KiB, 100 domains, pipelining message", 30000, content("50KiB", "message"), 100),
    "b-command": Workload("50 KiB, 100 domains, pipelining command", 30000, content("50KiB", "command"), 100, trips=2),
    "c-100domains": Workload("4 KiB, 100 domains with 10 connections each, two shards", 100000, content("4KiB", "message"), 100, shards=2),
    "c-1domain": Workload(
        "4 KiB, one domain with 10 connections (the default), two shards", 100000, content("4KiB", "message"), 1, shards=2, against="c-100domains"
    ),
    "c-1domain-wide": Workload(
        "4 KiB, one domain with 100 connections, two shards",
        100000,
        content("4KiB", "message"),
        1,
        shards=2,
        connections=100,
        against="c-100domains",
    ),
    "d-shards1": Workload("4 KiB, 100 domains, one shard", 100000, content("4KiB", "message"), 100, shards=1),
    "d-shards2": Workload("4 KiB, 100 domains, two shards", 100000, content("4KiB", "message"), 100, shards=2, against="d-shards1", cpu_most=1.15),
    "e-idle0": Workload("4 KiB, 100 domains, pipelining message, one shard", 100000, content("4KiB", "message"), 100, shards=1, warm_up=0.2),
    "e-idle10000": Workload(
        "4 KiB, 100 domains, pipelining message, one shard, idle sessions besides",
        100000,
        content("4KiB", "message"),
        100,
        shards=1,
        warm_up=0.2,
        idle=10000,
        against="e-idle0",
    ),
    "f-good": Workload(
        "4 KiB, 97 domains, pipelining message, and three besides", 100000, content("4KiB", "message"), 97, warm_up=0.2, besides=BESIDES, besides_share=3 / 97
    ),
    "f-slow": Workload(
        "4 KiB, 97 domains, pipelining message, and three besides that answer 451, nothing, a byte a second",
        100000,
        content("4KiB", "message"),
        97,
        warm_up=0.2,
        against="f-good",
        cpu_most=SLOWER_MOST,
        rate_least=1 / SLOWER_MOST,
        rules=BAD_SITES,
        besides=BESIDES,
        besides_share=3 / 97,
    ),
    "g-plain": Workload("4 KiB, 100 domains, pipelining message, one shard", 60000, MESSAGE_4K, 100, shards=1, warm_up=0.2),
    "g-tls": Workload(
        "4 KiB, 100 domains, pipelining message, one shard, TLS in and out", 60000, MESSAGE_4K + STARTTLS, 100, shards=1, warm_up=0.2, against="g-plain", tls="both"
    ),
    "g-sessions": Workload("4 KiB, 100 domains, a session for each message, one shard", 20000, EACH_A_SESSION, 100, shards=1, warm_up=0.2),
    "g-resumed": Workload(
        "4 KiB, 100 domains, a session for each message and a TLS session resumed, one shard",
        20000,
        EACH_A_SESSION + STARTTLS,
        100,
        shards=1,
        warm_up=0.2,
        against="g-sessions",
        tls="in",
        extra="handshake, resumed",
    ),
    "g-full": Workload(
        "4 KiB, 100 domains, a session for each message with a full TLS handshake, one shard",
        20000,
        EACH_A_SESSION + STARTTLS + ["--tls-full"],
        100,
        shards=1,
        warm_up=0.2,
        against="g-sessions",
        tls="in",
        extra="handshake, full",
    ),
    "h-quiet": Workload("4 KiB, 100 domains, 1,000 messages a second, TLS in and out, one shard", 12000, STEADY, 100, shards=1, warm_up=0.1, tls="both"),
    "h-hostile": Workload(
        "4 KiB, 100 domains, 1,000 messages a second, TLS in and out, one shard, and hostile clients besides",
        12000,
        STEADY,
        100,
        shards=1,
        warm_up=0.1,
        against="h-quiet",
        rate_least=1 / SLOWER_MOST,
        tls="both",
        hostile=HOSTILE,
        latency_most=SLOWER_MOST,
    ),
    "peers": Workload(
        "4 KiB, 100 domains, pipelining command, each a log",
        60000,
        content("4KiB", "command"),
        100,
        trips=2,
        relays=("ringpost", "postfix", "opensmtpd"),
        warm_up=0.3,
    ),
}
