#!/usr/bin/env python3
"""`make bench`: what a message costs, held against the floor of the same minute.

Each workload is run by each relay in turn, round after round (A B A B ...), with `floor` (the kernel alone, see build/bench/floor --help) between
them; the figures are medians over the rounds. The machine's own noise is larger than many differences: compare only what one run of this script
printed.

Workloads that are to be compared with each other (c: one domain against 100; d: two shards against one; e: with idle sessions and without; f: with
three bad sites and without) are run in the same rounds, too, if all of them are chosen. A line `pair` then gives the ratios of their CPU per message
and of their messages per second: the median of the rounds' ratios, least and most in brackets. It is also in the row's notes. Messages per second
depend on source and sink, which take as much of the processors as the relay does; where there are too few for all, that is said.

Idle sessions have been greeted (banner, EHLO) and are held by a source of their own while another sends. What one takes is the relay's resident
memory with them less that just before, divided by their number. The relay has had messages to relay before: what the first ones make it take, once
for all, is no session's. The kernel's memory for sockets is not in it.
Relay and holder need a descriptor for each: with a lower limit (ulimit -Hn) there are fewer, and it is said.

The three bad sites of f: one answers 451 to all, one is silent after the connect, one says a byte a second; in the workload they are held against
they are as good as the rest. Their mail, as much for each as for any other site, comes in both from a source of its own while the other sends; figures
are for the messages of the 97 others: what the relay used, and how long it took, by the number of these.

The workloads of g say what TLS costs: on both legs for messages in sessions that last, and in a session for each message, where besides the ratio it is
said what a handshake comes to, whole or with a TLS session resumed (with STARTTLS, a second EHLO, and one message deciphered). That is of the relay alone,
which delivers them in the clear.

Those of h, at a rate that is the same whatever the relay does: good mail in TLS by itself, and while hostile clients (build/bench/hostile --help) hold 10,000 half-open
handshakes, make new ones as old ones go, dribble, send garbage, vanish and ask for renegotiation, 500 connections a second all together. What the good mail
suffers is its messages/s and its injection latency, from the time a message was due. Source, sink and the attack need processor time, too: with two
processors use --pin, and nothing besides.

relays: ringpost; direct, the load generator straight into the sink, which shows what the tools themselves could do; postfix and opensmtpd, each a
fresh instance of its own, tuned (bench/peers.py), which need root and what tests/lib/get-peers.sh fetches. One that is not on this machine is
skipped, and named.

The workload `peers` holds Ringpost against the other two: each is warmed up first (its processes started, its files made), Ringpost writes its
events as the others write their logs, and slower ones get fewer messages, since what is compared is the processor time of a message: user and
system, of all processes of the relay, ended ones too. The kernel's own threads (journal, write-back) are in nobody's account.

Exit status 1 if a message was lost, duplicated or damaged in any round, an idle session was not kept, or a ratio is not what is required of it.
"""
import argparse
import datetime
import itertools
import os
import resource
import shutil
import subprocess
import sys

import harness
import peers
import security
import summary
from harness import Direct, Failure, Ringpost, World
from summary import median
from workloads import HOSTILE_DESCRIPTORS, STARTTLS, WORKLOADS

RELAYS = {relay.name: relay for relay in (Ringpost, Direct) + peers.ALL}

COLUMNS = [
    "date",
    "commit",
    "machine",
    "workload",
    "relay",
    "version",
    "durability",
    "spool on",
    "messages/s",
    "CPU us/message",
    "user",
    "system",
    "times ringpost",
    "floor us (trips)",
    "times floor",
    "lost, twice, damaged",
    "injection p50/p99 ms",
    "end to end p50/p99 ms",
    "memory MiB",
    "rounds",
    "notes",
    "command",
]


TABLE_INTRODUCTION = """## Relays

Medians over interleaved rounds; CPU is of the relay with all its processes, user and system, per delivered message.
`times floor`: that over the CPU time of `floor` measured in the same rounds; `times ringpost`: over that of Ringpost in the same
round, least and most in brackets. Appended by `bench/run.py --out`.

"""


def described(work):
    return work.what + (": %d" % work.idle if work.idle > 0 else "")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="workloads:\n" + "\n".join("  %-15s %s" % (name, described(work)) for name, work in WORKLOADS.items()),
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="names, or beginnings of several, with commas between")
    parser.add_argument("--relays", help="of %s (default: ringpost, and its peers for the workload of that name)" % ", ".join(RELAYS))
    parser.add_argument("--durability", default="sync", choices=["sync", "lazy", "memory"], help="of ringpost")
    parser.add_argument("--shards", type=int, default=1, help="of ringpost, where the workload does not say (default 1)")
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--scale", type=float, default=1, help="so many times the messages")
    parser.add_argument("--pin", action="store_true", help="the relay on processor 0, the load tools on the others")
    parser.add_argument("--build", default=os.path.join(harness.ROOT, "build"))
    parser.add_argument("--directory", help="parent of the spools (default: the build directory)")
    parser.add_argument("--limit", type=int, default=600, help="seconds after which a run has failed")
    parser.add_argument("--out", help="append the figures as rows of a Markdown table to this file")
    return parser.parse_args()


def chosen(text, names):
    """In their own order. A whole name means that one, even if others begin so."""
    wanted = [word for word in text.split(",") if word]
    found = [name for name in names if name in wanted or any(name.startswith(word) for word in wanted if word not in names)]
    unknown = [word for word in wanted if not any(name.startswith(word) for name in names)]
    if unknown or not found:
        raise Failure("unknown: %s; there are %s" % (", ".join(unknown), ", ".join(names)))
    return found


def size_of(work):
    return work.source[work.source.index("--size") + 1]


def run_floor(options, directory, size, trips):
    command = [
        os.path.join(options.build, "bench", "floor"),
        "--json",
        "--size",
        size,
        "--trips",
        str(trips),
        "--sessions",
        str(options.sessions),
        "--connections",
        str(options.sessions),
        "--duration",
        "2s",
        "--spool",
        directory,
        "--durability",
        "sync" if options.durability == "sync" else "none",
        "--peer-cpu",
        str(min(1, os.cpu_count() - 1)),
    ]
    return harness.json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


def relay_settings(options, directory, work, relay_class):
    """What a relay takes besides a place to live."""
    if relay_class is Ringpost:
        return {
            "shards": work.shards or options.shards,
            "durability": options.durability,
            "connections_per_site": work.connections,
            "events": len(work.relays) > 1,
            "certificate": security.make_certificate(directory, "relay.bench.test") if work.tls else None,
        }
    if issubclass(relay_class, peers.Peer):
        return {"domains": work.domains, "sessions": options.sessions, "connections_per_site": work.connections, "build": options.build}
    return {}


def run_relay(options, programs, directory, work, relay_class):
    messages = max(1, int(work.messages * options.scale * relay_class.share))
    own = os.path.join(directory, "run")
    os.makedirs(own)
    every = os.sched_getaffinity(0)
    relay_cpus, tool_cpus = ({0}, every - {0}) if options.pin and len(every) > 1 else (None, None)
    warm = int(messages * work.warm_up)
    others = max(1, round(messages * work.besides_share)) if work.besides else 0
    arriving = messages + (0 if work.rules else others)
    sink_options = ["--domains", 0 if work.besides else work.domains, "--expect", warm + arriving]
    sink_options += [word for rule in work.rules for word in ("--rule", rule)]
    sink_options += (["--warm-up"] if warm > 0 else []) + (["--no-address-check"] if relay_class is Direct else [])
    sink_options += STARTTLS if work.tls == "both" or (work.tls and relay_class is Direct) else []
    world = World(programs, options.build, own, harness.Progress(), sink_options, tool_cpus)
    relay = relay_class(programs, own, world.dns, world.mx_port, cpus=relay_cpus, **relay_settings(options, own, work, relay_class))
    source_options = work.source + ["--sessions", options.sessions, "--domains", work.domains, "--messages"]
    idle, besides, hostile, attack, kept = None, None, None, None, True
    try:
        relay.start()
        if warm > 0:
            harness.warm_up(world, relay, source_options + [warm], warm, options.limit)
        if work.idle > 0:
            idle = harness.IdleSessions(world, relay, work.idle)
        if work.besides:
            besides = world.source(relay.address, work.besides + ["--messages", others])
        if work.hostile:
            hostile = security.Hostile(world, relay, work.hostile)
        figures = harness.run_once(world, relay, source_options + [messages], options.limit)
        if hostile is not None:
            attack = security.attack_text(hostile.close())
        if idle is not None:
            kept = idle.close() or relay_class is Direct  # the sink has ended, and they with it
        if besides is not None and (not besides.wait(10) or besides.process.returncode != 0):
            raise Failure("%s did not take the mail of the source besides: %s" % (relay.name, besides.stop()))
    finally:
        relay.stop()
        world.sink.stop()
        shutil.rmtree(own, ignore_errors=True)
    if arriving > messages:  # of the first source's only
        figures["rate"] *= messages / arriving
        figures.update({key: figures[key] * arriving / messages for key in ("user_us", "system_us", "cpu_us")})
    figures["durability"] = relay.durability
    figures["idle_session_bytes"] = idle.bytes_each if idle is not None else None
    figures["attack"] = attack
    figures["trouble"] = trouble(figures, kept)
    if figures["trouble"] and relay.log():
        print("!!! %s:\n    %s" % (relay.name, "\n    ".join(relay.log())), flush=True)
    return figures


def trouble(figures, idle_kept):
    """What was not as it must be; empty if all was."""
    if not figures["well"]:
        return str(harness.bad_figures(figures["sink"]) or figures["source"]["end"])
    return "" if idle_kept else "idle sessions were ended by the relay"


def times_ringpost(name, rounds):
    """How many times the cost of Ringpost in the same round: median, least and most."""
    if name == Ringpost.name or Ringpost.name not in rounds:
        return "-"
    times = summary.ratio(rounds[name], rounds[Ringpost.name], "cpu_us")
    return times.text("%.1f") if times is not None else "-"


def make_row(options, directory, workload, work, name, all_rounds, floors, notes):
    """A row of the table: what this relay did in this workload."""
    rounds = all_rounds[name]
    floor_us = median(floors, lambda f: f["cpu_us_per_message"])
    cpu_us = median(rounds, lambda f: f["cpu_us"])
    times = "%.2f" % (cpu_us / floor_us) if cpu_us > 0 else "-"

    def percentiles(side, key):
        return "%.1f / %.1f" % (median(rounds, lambda f: f[side][key]["p50"]), median(rounds, lambda f: f[side][key]["p99"]))

    return {
        "date": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        "commit": harness.git_commit(),
        "machine": harness.machine(),
        "workload": "%s (%s), %d messages, %d sessions" % (workload, described(work), rounds[0]["source"]["messages"], options.sessions),
        "relay": name,
        "version": RELAYS[name].version(options) or "-",
        "durability": rounds[0]["durability"],
        "spool on": harness.file_system(directory),
        "messages/s": "%.0f" % median(rounds, lambda f: f["rate"]),
        "CPU us/message": "%.1f" % cpu_us,
        "user": "%.1f" % median(rounds, lambda f: f["user_us"]),
        "system": "%.1f" % median(rounds, lambda f: f["system_us"]),
        "times ringpost": times_ringpost(name, all_rounds),
        "floor us (trips)": "%.1f (%d)" % (floor_us, work.trips),
        "times floor": times,
        "lost, twice, damaged": ", ".join(str(max(f["sink"][key] for f in rounds)) for key in ("lost", "duplicated", "corrupt")),
        "injection p50/p99 ms": percentiles("source", "injection_ms"),
        "end to end p50/p99 ms": percentiles("sink", "end_to_end_ms"),
        "memory MiB": "%.0f" % (median(rounds, lambda f: f["peak_memory_kib"]) / 1024),
        "rounds": str(len(rounds)),
        "notes": "; ".join(note for note in [RELAYS[name].note, summary.idle_text(rounds), *notes] if note) or "-",
        "command": "`bench/run.py %s`" % " ".join(sys.argv[1:]),
    }


def print_row(row):
    print(
        "  %-15s %-9s %9s messages/s  CPU %6s us/message (user %s, system %s)  floor %s  x%s  injection %s ms  end to end %s ms  %s MiB%s"
        % (
            row["workload"].split(" ", 1)[0],
            row["relay"],
            row["messages/s"],
            row["CPU us/message"],
            row["user"],
            row["system"],
            row["floor us (trips)"],
            row["times floor"],
            row["injection p50/p99 ms"],
            row["end to end p50/p99 ms"],
            row["memory MiB"],
            "  = ringpost x%s" % row["times ringpost"] if row["times ringpost"] != "-" else "",
        ),
        flush=True,
    )


def append_rows(path, rows):
    """Behind the last row of the file's table; without one it is begun at the end."""
    head = "| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS) + "\n"
    text = ""
    if os.path.exists(path):
        with open(path) as file:
            text = file.read()
    above, found, below = text.rpartition(head)
    if not found:
        above, below = text + ("\n" if text else "# Results\n\n") + TABLE_INTRODUCTION, ""
    lines = below.splitlines(keepends=True)
    table = list(itertools.takewhile(lambda line: line.startswith("|"), lines))
    added = ["| " + " | ".join(row[column].replace("|", "/") for column in COLUMNS) + " |\n" for row in rows]
    with open(path, "w") as file:
        file.write("".join([above, head, *table, *added, *lines[len(table) :]]))


def available(options, names):
    """Those that are on this machine; of the others it is said, loudly, that they are not."""
    found = []
    for name in names:
        why = RELAYS[name].available(options)
        if why is None:
            found.append(name)
        elif name == Ringpost.name:
            raise Failure("%s: %s" % (name, why))
        else:
            print("!!! SKIPPED %s: %s" % (name, why), flush=True)
    return found


def describe(options, relays):
    for name in relays:
        relay = RELAYS[name]
        if relay.version(options):
            print(
                "    %-9s %s; 250 means: %s%s"
                % (name, relay.version(options), relay.durability or options.durability, "; " + relay.note if relay.note else "")
            )


def groups(names):
    """Those that are run in the same rounds."""
    found = {}
    for name in names:
        found.setdefault(WORKLOADS[name].against or name, []).append(name)
    return list(found.values())


def possible(options, names):
    """name -> workload, with as many idle sessions as the limit of open files allows; what cannot be run is left out. Both are said, loudly."""
    limit, found = resource.getrlimit(resource.RLIMIT_NOFILE)[1], {}
    for name in names:
        work = WORKLOADS[name]
        why = security.unavailable() if work.tls else None
        if why is None and work.hostile and limit != resource.RLIM_INFINITY and limit < HOSTILE_DESCRIPTORS:
            why = "open files are limited to %d (ulimit -Hn), and %d are needed" % (limit, HOSTILE_DESCRIPTORS)
        if why is not None:
            print("!!! SKIPPED %s: %s" % (name, why), flush=True)
            continue
        if work.idle > 0 and limit != resource.RLIM_INFINITY:
            count = summary.idle_possible(work.idle, limit, options.sessions, work.domains * work.connections)
            if count < work.idle:
                print("!!! %s: open files are limited to %d (ulimit -Hn): %d idle sessions instead of %d" % (name, limit, count, work.idle))
            if count == 0:
                print("!!! SKIPPED %s" % name, flush=True)
                continue
            work = work._replace(idle=count)
        found[name] = work
    return found


def run_round(options, programs, directory, group, relays, rounds, floors, number):
    """Each workload of the group by each relay, and `floor` once for each kind of message; all are added to what there is."""
    for size, trips in floors:
        floors[size, trips].append(run_floor(options, directory, size, trips))
    for name, work in group.items():
        for relay in relays:
            figures = run_relay(options, programs, directory, work, RELAYS[relay])
            rounds[name][relay].append(figures)
            each = figures["idle_session_bytes"]
            print(
                "    round %d %-15s %-9s %7.0f messages/s, CPU %6.1f us/message; floor %5.1f us%s%s"
                % (
                    number,
                    name,
                    relay,
                    figures["rate"],
                    figures["cpu_us"],
                    floors[size_of(work), work.trips][-1]["cpu_us_per_message"],
                    "; %.2f KiB per idle session" % (each / 1024) if each is not None else "",
                    "  NOT WELL: %s" % figures["trouble"] if figures["trouble"] else "",
                ),
                flush=True,
            )


def compared(options, group, rounds, relay):
    """name -> how it compares with the one it is held against; and whether all is as required."""
    texts, kept = {}, True
    for pair in summary.pairs({name: rounds[name][relay] for name in group}, {name: work.against for name, work in group.items() if work.against}):
        work = group[pair.name]
        shards, base_shards = (group[name].shards or options.shards for name in (pair.name, pair.base))
        caution = summary.rate_caution(shards, base_shards, os.cpu_count())
        words = [summary.pair_text(pair, work.cpu_most, caution, work.rate_least)]
        kept = kept and summary.pair_kept(pair, work.cpu_most, work.rate_least)
        own, base = rounds[pair.name][relay], rounds[pair.base][relay]
        if work.latency_most is not None:
            words.append(summary.latency_text(own, base, work.latency_most))
            kept = kept and summary.latency_kept(own, base, work.latency_most)
        if work.extra is not None and pair.cpu is not None:
            words.append(summary.difference_text(own, base, work.extra))
        texts[pair.name] = "against %s: %s" % (pair.base, "; ".join(words))
    return texts, kept


def bench_group(options, programs, directory, group):
    """The workloads of a group in the same rounds. The rows, and whether all went well."""
    for name, work in group.items():
        print("%s: %s" % (name, described(work)), flush=True)
    relays = available(options, chosen(options.relays, RELAYS) if options.relays else next(iter(group.values())).relays)
    for name in [name for name in relays if issubclass(RELAYS[name], peers.Peer) and any(work.tls for work in group.values())]:
        print("!!! SKIPPED %s: it is set up without TLS" % name, flush=True)
        relays.remove(name)
    if len(relays) > 1:
        describe(options, relays)
    rounds = {name: {relay: [] for relay in relays} for name in group}
    floors = {(size_of(work), work.trips): [] for work in group.values()}
    for number in range(options.rounds):
        run_round(options, programs, directory, group, relays, rounds, floors, number + 1)
    comparisons = {relay: compared(options, group, rounds, relay) for relay in relays}
    notes = {relay: texts for relay, (texts, _) in comparisons.items()}
    rows = []
    for name, work in group.items():
        for relay in relays:
            attack = rounds[name][relay][-1]["attack"]
            note = "; ".join(text for text in (notes[relay].get(name), attack) if text)
            rows.append(make_row(options, directory, name, work, relay, rounds[name], floors[size_of(work), work.trips], [note]))
            print_row(rows[-1])
            idle = summary.idle_text(rounds[name][relay])
            if idle:
                print("  %-15s %-9s %s" % (name, relay, idle))
    for relay in relays:
        for name, text in notes[relay].items():
            print("  pair %s %s %s" % (relay, name, text), flush=True)
    well = not any(figures["trouble"] for of_name in rounds.values() for of_relay in of_name.values() for figures in of_relay)
    return rows, well and all(kept for _, kept in comparisons.values())


def bench(options, programs, directory):
    Ringpost.binary = os.path.join(options.build, "ringpost")
    print(
        "%s, commit %s, spool on %s, durability %s, %d rounds"
        % (harness.machine(), harness.git_commit(), harness.file_system(directory), options.durability, options.rounds),
        flush=True,
    )
    all_well = True
    for names in groups(chosen(options.workloads, WORKLOADS)):
        group = possible(options, names)
        if not group:
            continue
        rows, well = bench_group(options, programs, directory, group)
        all_well = all_well and well
        if options.out:
            append_rows(options.out, rows)
    return 0 if all_well else 1


def main():
    options = parse_arguments()
    options.build = os.path.abspath(options.build)
    if options.rounds < 1:
        print("--rounds: at least 1", file=sys.stderr)
        return 2
    directory = harness.make_directory(options.directory or options.build, "bench-run")
    try:
        return harness.main_with_cleanup(lambda programs: bench(options, programs, directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
