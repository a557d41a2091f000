#!/usr/bin/env python3
"""`make bench`: what a message costs, held against the floor of the same minute.

Each workload is run by each relay in turn, round after round (A B A B ...), with `floor` (the kernel alone, see build/bench/floor --help) between
them; the figures are medians over the rounds. The machine's own noise is larger than many differences: compare only what one run of this script
printed.

relays: ringpost; direct, the load generator straight into the sink, which shows what the tools themselves could do; postfix and opensmtpd, each a
fresh instance of its own, tuned (bench/peers.py), which need root and what tests/lib/get-peers.sh fetches. One that is not on this machine is
skipped, and named.

The workload `peers` holds Ringpost against the other two: each is warmed up first (its processes started, its files made), Ringpost writes its
events as the others write their logs, and slower ones get fewer messages, since what is compared is the processor time of a message: user and
system, of all processes of the relay, ended ones too. The kernel's own threads (journal, write-back) are in nobody's account.

Exit status 1 if a message was lost, duplicated or damaged in any round.
"""
import argparse
import collections
import datetime
import os
import shutil
import statistics
import subprocess
import sys

import harness
import peers
from harness import Direct, Failure, Ringpost, World

RELAYS = {relay.name: relay for relay in (Ringpost, Direct) + peers.ALL}

# what it is, messages for source, options of source, domains, shards of the relay (0: as by --shards), round trips of the floor to compare with,
# relays where --relays does not say, and how much of the messages goes through each before it is measured
Workload = collections.namedtuple("Workload", "what messages source domains shards trips relays warm_up", defaults=(0, 1, ("ringpost",), 0))


def content(size, pipelining):
    return ["--size", size, "--pipelining", pipelining]


WORKLOADS = {
    "a-message": Workload("4 KiB, 100 domains, pipelining message", 100000, content("4KiB", "message"), 100),
    "a-command": Workload("4 KiB, 100 domains, pipelining command", 100000, content("4KiB", "command"), 100, trips=2),
    "b-message": Workload("50 KiB, 100 domains, pipelining message", 30000, content("50KiB", "message"), 100),
    "b-command": Workload("50 KiB, 100 domains, pipelining command", 30000, content("50KiB", "command"), 100, trips=2),
    "c-message": Workload("4 KiB, one domain, pipelining message", 100000, content("4KiB", "message"), 1),
    "d-shards1": Workload("4 KiB, 100 domains, one shard", 100000, content("4KiB", "message"), 100, shards=1),
    "d-shards2": Workload("4 KiB, 100 domains, two shards", 100000, content("4KiB", "message"), 100, shards=2),
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


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="workloads:\n" + "\n".join("  %-10s %s" % (name, work.what) for name, work in WORKLOADS.items()),
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="names, or beginnings of names, with commas between")
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
    wanted = [word for word in text.split(",") if word]
    found = [name for name in names if any(name.startswith(word) for word in wanted)]
    unknown = [word for word in wanted if not any(name.startswith(word) for name in names)]
    if unknown or not found:
        raise Failure("unknown: %s; there are %s" % (", ".join(unknown), ", ".join(names)))
    return found


def run_floor(options, directory, workload):
    work = WORKLOADS[workload]
    command = [
        os.path.join(options.build, "bench", "floor"),
        "--json",
        "--size",
        work.source[work.source.index("--size") + 1],
        "--trips",
        str(work.trips),
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


def relay_settings(options, work, relay_class):
    """What a relay takes besides a place to live."""
    connections = options.sessions if work.domains == 1 else 10
    if relay_class is Ringpost:
        return {
            "shards": work.shards or options.shards,
            "durability": options.durability,
            "connections_per_site": connections,
            "events": len(work.relays) > 1,
        }
    if issubclass(relay_class, peers.Peer):
        return {"domains": work.domains, "sessions": options.sessions, "connections_per_site": connections, "build": options.build}
    return {}


def run_relay(options, programs, directory, workload, relay_class):
    work = WORKLOADS[workload]
    messages = max(1, int(work.messages * options.scale * relay_class.share))
    own = os.path.join(directory, "run")
    os.makedirs(own)
    every = os.sched_getaffinity(0)
    relay_cpus, tool_cpus = ({0}, every - {0}) if options.pin and len(every) > 1 else (None, None)
    warm = int(messages * work.warm_up)
    sink_options = ["--domains", work.domains, "--expect", warm + messages]
    sink_options += (["--warm-up"] if warm > 0 else []) + (["--no-address-check"] if relay_class is Direct else [])
    world = World(programs, options.build, own, harness.Progress(), sink_options, tool_cpus)
    relay = relay_class(programs, own, world.dns, world.mx_port, cpus=relay_cpus, **relay_settings(options, work, relay_class))
    source_options = work.source + ["--sessions", options.sessions, "--domains", work.domains, "--messages"]
    try:
        relay.start()
        if warm > 0:
            harness.warm_up(world, relay, source_options + [warm], warm, options.limit)
        figures = harness.run_once(world, relay, source_options + [messages], options.limit)
    finally:
        relay.stop()
        world.sink.stop()
        shutil.rmtree(own, ignore_errors=True)
    figures["durability"] = relay.durability
    return figures


def median(rounds, read):
    return statistics.median(read(figures) for figures in rounds)


def times_ringpost(name, rounds):
    """How many times the cost of Ringpost in the same round: median, least and most."""
    if name == Ringpost.name or Ringpost.name not in rounds:
        return "-"
    times = [other["cpu_us"] / own["cpu_us"] for other, own in zip(rounds[name], rounds[Ringpost.name])]
    return "%.1f (%.1f to %.1f)" % (statistics.median(times), min(times), max(times))


def summary(options, directory, workload, name, all_rounds, floors):
    rounds, work = all_rounds[name], WORKLOADS[workload]
    floor_us = median(floors, lambda f: f["cpu_us_per_message"])
    cpu_us = median(rounds, lambda f: f["cpu_us"])
    times = "%.2f" % (cpu_us / floor_us) if cpu_us > 0 else "-"

    def percentiles(side, key):
        return "%.1f / %.1f" % (median(rounds, lambda f: f[side][key]["p50"]), median(rounds, lambda f: f[side][key]["p99"]))

    return {
        "date": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        "commit": harness.git_commit(),
        "machine": harness.machine(),
        "workload": "%s (%s), %d messages, %d sessions" % (workload, work.what, rounds[0]["source"]["messages"], options.sessions),
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
        "notes": RELAYS[name].note or "-",
        "command": "`bench/run.py %s`" % " ".join(sys.argv[1:]),
    }


def print_summary(row):
    print(
        "  %-9s %9s messages/s  CPU %6s us/message (user %s, system %s)  floor %s  x%s  injection %s ms  end to end %s ms  %s MiB%s"
        % (
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
    """To the table at the file's end, if that is what the file ends with; else a new one is begun."""
    head = "| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS) + "\n"
    text = ""
    if os.path.exists(path):
        with open(path) as file:
            text = file.read()
    _, found, below = text.rpartition(head)
    with open(path, "a") as file:
        if not found or any(not line.startswith("|") for line in below.splitlines()):
            file.write(("\n" if text else "# Results\n\n") + TABLE_INTRODUCTION + head)
        for row in rows:
            file.write("| " + " | ".join(row[column].replace("|", "/") for column in COLUMNS) + " |\n")


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


def bench_workload(options, programs, directory, workload):
    print("%s: %s" % (workload, WORKLOADS[workload].what), flush=True)
    relays = available(options, chosen(options.relays, RELAYS) if options.relays else WORKLOADS[workload].relays)
    if len(relays) > 1:
        describe(options, relays)
    rounds, floors, well = {name: [] for name in relays}, [], True
    for number in range(options.rounds):
        floors.append(run_floor(options, directory, workload))
        for name in relays:
            figures = run_relay(options, programs, directory, workload, RELAYS[name])
            rounds[name].append(figures)
            print(
                "    round %d %-9s %7.0f messages/s, CPU %6.1f us/message; floor %5.1f us%s"
                % (
                    number + 1,
                    name,
                    figures["rate"],
                    figures["cpu_us"],
                    floors[-1]["cpu_us_per_message"],
                    "" if figures["well"] else "  NOT WELL: %s" % (harness.bad_figures(figures["sink"]) or figures["source"]["end"]),
                ),
                flush=True,
            )
            well = well and figures["well"]
    rows = [summary(options, directory, workload, name, rounds, floors) for name in relays]
    for row in rows:
        print_summary(row)
    return rows, well


def bench(options, programs, directory):
    Ringpost.binary = os.path.join(options.build, "ringpost")
    print(
        "%s, commit %s, spool on %s, durability %s, %d rounds"
        % (harness.machine(), harness.git_commit(), harness.file_system(directory), options.durability, options.rounds),
        flush=True,
    )
    all_well = True
    for workload in chosen(options.workloads, WORKLOADS):
        rows, well = bench_workload(options, programs, directory, workload)
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
