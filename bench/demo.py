#!/usr/bin/env python3
"""`make demo`: 100,000 messages through Ringpost, and what became of them.

Starts a sink that plays the mail exchangers of 100 domains and answers their DNS, the relay in front of it, and a load generator; nothing outside
this machine is touched. Ends with a table, and with status 1 if a single message was lost, duplicated or damaged.
"""
import argparse
import os
import shutil
import sys
import time

import harness
from harness import Failure, Ringpost, World


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100000)
    parser.add_argument("--sessions", type=int, default=100, help="SMTP sessions into the relay")
    parser.add_argument("--domains", type=int, default=100)
    parser.add_argument("--size", default="4KiB", help="of a message, such as 4KiB, 50KiB")
    parser.add_argument("--pipelining", default="message", choices=["none", "command", "message"], help="how the load generator sends")
    parser.add_argument("--durability", default="sync", choices=["sync", "lazy", "memory"])
    parser.add_argument("--shards", type=int, default=0, help="threads of the relay, 0: one per processor")
    parser.add_argument("--build", default=os.path.join(harness.ROOT, "build"))
    parser.add_argument("--directory", help="parent of the spool (default: the build directory)")
    parser.add_argument("--limit", type=int, default=300, help="seconds after which the run has failed")
    parser.add_argument("--keep", action="store_true", help="keep the temporary directory")
    return parser.parse_args()


class Display:
    """One line that is written over, on a terminal; every other second a line of its own elsewhere."""

    def __init__(self, progress, messages):
        self.progress = progress
        self.messages = messages
        self.started = time.monotonic()
        self.terminal = sys.stdout.isatty()
        self.interval = 0.5 if self.terminal else 2
        self.next = self.started + self.interval

    def tick(self):
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + self.interval
        arrived = self.progress.get("sink", "arrived")
        text = "%5.1f s  accepted %7d  delivered %7d  (%5d/s in, %5d/s out)  [%-30s]" % (
            now - self.started,
            max(arrived, self.progress.get("source", "accepted")),  # source and sink tell at different moments
            arrived,
            self.progress.rate("source"),
            self.progress.rate("sink"),
            "#" * int(30 * arrived / self.messages),
        )
        if self.terminal:
            print("\r" + self._fit(text), end="", flush=True)
        else:
            print(text, flush=True)

    def _fit(self, text):
        """One that is cut off by the terminal's edge would not be written over."""
        columns = shutil.get_terminal_size().columns - 1
        return text[:columns].ljust(columns)

    def end(self):
        if self.terminal:
            print("\r" + self._fit("") + "\r", end="")


PROMISES = {
    "sync": "accepted means on stable storage",
    "lazy": "accepted means written; on stable storage within 100 ms",
    "memory": "accepted means in memory: lost if the machine or the process dies",
}


def row(label, value, note=""):
    print("  %-34s %14s  %s" % (label, value, note))


def latency(label, figures):
    row(label, "%.1f ms" % figures["p50"], "p99 %.1f ms, max %.1f ms" % (figures["p99"], figures["max"]))


def print_table(options, relay, figures, directory):
    sink, source = figures["sink"], figures["source"]
    print("\n%s, commit %s, %s" % (Ringpost.version(options), harness.git_commit(), harness.machine()))
    print("%d sessions in, %d domains, %s a message, pipelining %s\n" % (options.sessions, options.domains, options.size, options.pipelining))
    row("durability", relay.durability, "%s; spool on %s" % (PROMISES[relay.durability], harness.file_system(directory)))
    row("messages accepted", "{:,}".format(source["accepted"]))
    row("messages delivered", "{:,}".format(sink["arrived"]))
    row("lost", "{:,}".format(sink["lost"]), "of {:,}".format(sink["expected"]))
    row("duplicated", sink["duplicated"])
    row("damaged", sink["corrupt"])
    row("at the wrong host", sink["misrouted"])
    row("messages per second", "{:,.0f}".format(figures["rate"]), "injected at {:,.0f}".format(source["messages_per_second"]))
    row("CPU of the relay per message", "%.1f us" % figures["cpu_us"], "user %.1f us, system %.1f us" % (figures["user_us"], figures["system_us"]))
    row("  that is messages per CPU-second", "{:,.0f}".format(1e6 / figures["cpu_us"]) if figures["cpu_us"] > 0 else "-")
    row("CPU of the load tools per message", "%.1f us" % (source["cpu_us_per_message"] + sink["cpu_us_per_message"]), "source and sink, same machine")
    row("peak memory of the relay", "%.0f MiB" % (figures["peak_memory_kib"] / 1024))
    latency("injection latency, p50", source["injection_ms"])
    latency("end-to-end latency, p50", sink["end_to_end_ms"])
    row("connections to the exchangers", "{:,}".format(sink["connections"]["count"]), "%.0f messages each" % sink["connections"]["messages_each"])


def demo(options, programs, directory):
    progress = harness.Progress()
    world = World(programs, options.build, directory, progress, ["--domains", options.domains, "--expect", options.messages])
    Ringpost.binary = os.path.join(options.build, "ringpost")
    relay = Ringpost(programs, directory, world.dns, world.mx_port, shards=options.shards, durability=options.durability)
    try:
        relay.start()
        print("sink, DNS and ringpost (pid %d) are up; sending %d messages" % (relay.program.process.pid, options.messages), flush=True)
        display = Display(progress, options.messages)
        figures = harness.run_once(
            world,
            relay,
            [
                "--messages",
                options.messages,
                "--sessions",
                options.sessions,
                "--domains",
                options.domains,
                "--size",
                options.size,
                "--pipelining",
                options.pipelining,
            ],
            options.limit,
            display.tick,
        )
        display.end()
        print_table(options, relay, figures, directory)
    finally:
        status = relay.stop()
    if status != 0:
        raise Failure("ringpost ended with status %s:\n  %s" % (status, "\n  ".join(relay.log())))
    if not figures["well"]:
        raise Failure("see above: not every message arrived exactly once\n  %s" % "\n  ".join(relay.log()))
    print("\nevery message arrived once, whole, at the right host; ringpost ended cleanly")
    return 0


def main():
    options = parse_arguments()
    options.build = os.path.abspath(options.build)
    for name in ("ringpost", "bench/source", "bench/sink"):
        if not os.access(os.path.join(options.build, name), os.X_OK):
            print("%s is missing: run make" % os.path.join(options.build, name), file=sys.stderr)
            return 1
    directory = harness.make_directory(options.directory or options.build, "demo")
    try:
        return harness.main_with_cleanup(lambda programs: demo(options, programs, directory))
    finally:
        if options.keep:
            print("kept %s" % directory)
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
