#!/usr/bin/env python3
"""`make million`: a million deferred messages in a hundred thousand domains on one host, and what they cost.

Phase 1: the sites of all domains take nothing (--trouble: they answer 451 to every recipient, or refuse connections); the source hands in all
messages, until every one of them is deferred. Resident memory, also for each message less that of the empty relay; processor time for each message.
Phase 2: while --rate messages a second to other domains, which accept them, go through: how long /metrics, /health and `ringpost ctl queue` take.
Phase 3: SIGTERM; then the start: how long until it is ready, how many messages are back.
Phase 4: the sites accept; everything drains: nothing lost, nothing twice. Messages go at the time they are due, or, if there is a `ringpost ctl
retry`, at once.

The simulated world is one sink: each domain is a site of its own with an MX host and an address of its own in 127.0.0.0/8. The spool takes about 5
KiB a message (of 4 KiB), beneath --directory; it is removed at the end. Exit status 1 if a limit is not kept, or a message was lost, duplicated, damaged.
"""
import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import harness
from harness import Failure, Ringpost

MEMORY_MB = 600
METRICS_MS = 50
QUEUE_MS = 100
RESTART_S = 15

DOMAINS_MAX = 100000  # d00000.test to d99999.test
GOOD_FIRST = 200000  # d200000.test ... are those that accept all the time
GOOD_COUNT = 16
DEFERRED = "d?????.test"
LATER = "reply=451 4.7.1 come back later"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1000000)
    parser.add_argument("--domains", type=int, default=100000, help="at most %d" % DOMAINS_MAX)
    parser.add_argument("--size", default="4KiB", help="of a message")
    parser.add_argument("--trouble", default="451", choices=["451", "refused"], help="what the sites do in phase 1 (default 451)")
    parser.add_argument("--durability", default="sync", choices=["sync", "lazy", "memory"])
    parser.add_argument("--shards", type=int, default=0, help="threads of the relay, 0: one per processor")
    parser.add_argument("--sessions", type=int, default=100, help="SMTP sessions into the relay")
    parser.add_argument("--events", action="store_true", help="the relay writes its events, too")
    parser.add_argument("--retry", type=int, default=0, help="queue.retry_initial in seconds (default: 200 and 0.6 for each 1,000 messages)")
    parser.add_argument("--memory", default="448MiB", help="limits.memory: of messages and their content (default 448MiB)")
    parser.add_argument("--idle", type=int, default=1, help="delivery.idle in seconds (default 1)")
    parser.add_argument("--settle", type=int, default=75, help="seconds until memory is looked at: the relay gives back what it did not need for 30 s")
    parser.add_argument("--rate", type=int, default=1000, help="messages a second in phase 2")
    parser.add_argument("--requests", type=int, default=50, help="of each kind in phase 2")
    parser.add_argument("--build", default=os.path.join(harness.ROOT, "build"))
    parser.add_argument("--directory", help="parent of the spool (default: the build directory)")
    parser.add_argument("--limit", type=int, default=3600, help="seconds after which a phase has failed")
    parser.add_argument("--pause", action="store_true", help="wait for Enter after phase 1, to look at the process")
    parser.add_argument("--keep", action="store_true", help="keep the temporary directory")
    return parser.parse_args()


# ---- the world ----


def good_address(number):
    """The sink gives the addresses of 127.0.0.0/8 out in turn, and leaves out the first."""
    number += GOOD_FIRST + 1
    return "127.%d.%d.%d" % (number >> 16 & 255, number >> 8 & 255, number & 255)


class Internet:
    """All sites, and their DNS. Refused connections need an address where nobody listens: then those that accept have a sink of their own."""

    def __init__(self, programs, options):
        self._programs, self._options = programs, options
        self.progress = harness.Progress()
        self.mx_port = harness.free_port()
        self.dns = "127.0.0.1:%d" % harness.dns_port()
        self._sinks = []

    def _start(self, *arguments):
        program = os.path.join(self._options.build, "bench", "sink")
        command = [program, "--json", "--progress", "--threads", 2, *arguments]  # of 16384 connections each
        sink = self._programs.start(command, progress=self.progress)
        self._sinks.append(sink)
        sink.wait_ready()

    def _start_world(self, port, *arguments):
        self._start("--listen", "127.0.0.0/8:%d" % port, "--dns", self.dns, "--negative-ttl", "1h", *arguments)

    def refuse(self):
        """The sites are in trouble, but for the good ones."""
        if self._options.trouble == "451":
            self._start_world(self.mx_port, "--rule", "rcpt=*@%s stage=rcpt %s" % (DEFERRED, LATER))
            return
        self._start_world(harness.free_port())
        listeners = [word for i in range(GOOD_COUNT) for word in ("--listen", "%s:%d" % (good_address(i), self.mx_port))]
        self._start(*listeners)

    def accept(self, expected):
        self._start_world(self.mx_port, "--expect", expected, "--linger", "3s")

    def arrived(self):
        return self.progress.get("sink", "arrived")

    def running(self):
        return all(sink.running() for sink in self._sinks)

    def end(self):
        """The reports of all sinks there were since the last time."""
        sinks, self._sinks = self._sinks, []
        for sink in sinks:
            sink.stop()
        self.progress.values.pop("sink", None)
        return [sink.report() for sink in sinks]


class Relay(Ringpost):
    """With an endpoint, and times to try again that suit the phases."""

    def __init__(self, programs, directory, internet, options):
        retry_s = options.retry or 200 + options.messages * 6 // 10000
        http_port = harness.free_port()
        super().__init__(
            programs,
            directory,
            internet.dns,
            internet.mx_port,
            shards=options.shards,
            durability=options.durability,
            events=options.events,
            delivery=["idle: %ds" % options.idle],
            more=[
                "queue: {retry_initial: %ds, retry_factor: 1, retry_max: %ds}" % (retry_s, retry_s),
                "limits: {memory: %s}" % options.memory,
                "http: {address: 127.0.0.1, port: %d}" % http_port,
            ],
        )
        self.retry_s = retry_s
        self.http_port = http_port

    def get(self, path):
        """(seconds, status, body), over a connection of its own, as monitors do it."""
        begin = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return time.monotonic() - begin, response.status, body.decode()

    def metrics(self):
        values = {}
        for line in self.get("/metrics")[2].splitlines():
            if line and not line.startswith("#"):
                name, value = line.split()
                values[name.removeprefix("ringpost_")] = float(value)
        return values

    def memory(self):
        """(now, most) in bytes: VmRSS, VmHWM."""
        with open("/proc/%d/status" % self.program.process.pid) as file:
            kib = {line.split(":")[0]: int(line.split()[1]) for line in file if line.startswith(("VmRSS:", "VmHWM:"))}
        return kib["VmRSS"] * 1024, kib["VmHWM"] * 1024

    def cpu(self):
        return sum(self.cpu_seconds())


class Control:
    """`ringpost ctl`, if this binary has it."""

    def __init__(self, relay):
        self._command = [relay.binary, "ctl"]
        self._settings = ["--config", relay.configuration_path()]
        asked = subprocess.run([*self._command, "--help"], capture_output=True, text=True)
        self._help = asked.stdout if asked.returncode == 0 else ""

    def knows(self, name):
        return "ctl" in self._help and any(name in line.split() for line in self._help.splitlines())

    def run(self, *words):
        """(seconds, output); Failure if it fails."""
        begin = time.monotonic()
        done = subprocess.run([*self._command, *self._settings, *words], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure("ringpost ctl %s: status %d: %s" % (" ".join(words), done.returncode, (done.stderr or done.stdout).strip()))
        return time.monotonic() - begin, done.stdout


# ---- what is said ----


class Verdicts:
    """The limits, and how they were kept."""

    def __init__(self):
        self._rows = []

    def at_most(self, what, value, limit, unit):
        self._rows.append((what, "%.1f %s" % (value, unit), "below %g %s" % (limit, unit), value < limit))

    def none(self, what, count):
        self._rows.append((what, "%d" % count, "none", count == 0))

    def print(self):
        print("\nlimits")
        for what, value, limit, kept in self._rows:
            print("  %-46s %12s   %-14s %s" % (what, value, limit, "ok" if kept else "FAILED"))
        return all(row[3] for row in self._rows)


def say(what, value):
    print("  %-46s %s" % (what, value), flush=True)


def mb(size):
    return "%.1f MB" % (size / 1e6)


def wait_for(relay, done, tell, limit_s, every_s=0.25):
    """Until done() is true; tells every 10 s how it stands. The seconds it took."""
    begin = told = time.monotonic()
    while not done():
        harness.check_alive(relay)
        now = time.monotonic()
        if now - begin > limit_s:
            raise Failure("not done after %d s: %s" % (limit_s, tell()))
        if now - told >= 10:
            told = now
            print("    %5.0f s  %s" % (now - begin, tell()), flush=True)
        time.sleep(every_s)
    return time.monotonic() - begin


def send(programs, internet, relay, options, arguments):
    command = [os.path.join(options.build, "bench", "source"), "--to", relay.address, "--json", "--progress", "--size", options.size]
    return programs.start([*command, "--pipelining", "message", *arguments], progress=internet.progress)


def injected(source):
    """Its report; Failure if it could not get rid of all."""
    source.wait(60)
    if source.process.returncode != 0:
        raise Failure("the source could not hand in all messages:\n  %s" % "\n  ".join(source.tail()))
    return source.report()


# ---- the phases ----


def all_deferred(programs, internet, relay, options, verdicts):
    print("\n1. %d messages in %d domains, whose sites %s" % (options.messages, options.domains, options.trouble), flush=True)
    empty, before_s, begin = relay.memory()[0], relay.cpu(), time.monotonic()
    arguments = ["--messages", options.messages, "--domains", options.domains, "--sessions", options.sessions, "--timeout", "300s"]
    source = send(programs, internet, relay, options, arguments)

    def tell():
        now = relay.metrics()
        return "accepted %d, deferred %d, ready %d, connections %d, sites %d, %s" % (
            now["messages_received_total"],
            now["deferred_recipients"],
            now["ready_recipients"],
            now["connections_open"],
            now["sites"],
            mb(relay.memory()[0]),
        )

    injection_s = wait_for(relay, lambda: not source.running(), tell, options.limit)
    report = injected(source)

    def deferred():
        if time.monotonic() - begin > 0.9 * relay.retry_s:  # the jitter of queue.retry_initial is a tenth
            raise Failure("the next tries have begun before all were deferred: --retry %d is too short (%s)" % (relay.retry_s, tell()))
        return relay.metrics()["deferred_recipients"] >= options.messages

    after_s = wait_for(relay, deferred, tell, options.limit)
    spent = relay.cpu() - before_s
    busy = relay.memory()[0]
    settled = time.monotonic() + options.settle
    wait_for(relay, lambda: time.monotonic() > settled, tell, options.limit)
    now, most = relay.memory()
    figures = relay.metrics()
    say("injected in", "%.1f s, %.0f messages/s; p99 %.1f ms" % (injection_s, options.messages / injection_s, report["injection_ms"]["p99"]))
    say("all deferred so long after", "%.1f s" % after_s)
    counts = tuple(figures[name] for name in ("deferred_total", "connections_total", "connections_failed_total", "dns_timeouts_total"))
    say("attempts deferred", "%d; connections %d, failed %d; DNS queries without answer %d" % counts)
    say("CPU", "%.1f us a message" % (spent * 1e6 / options.messages))
    say("memory of the empty relay", mb(empty))
    say("memory at the end of the injection, most", "%s, %s" % (mb(busy), mb(most)))
    say("memory %d s later" % options.settle, mb(now))
    say("a message", "%.0f bytes (%.0f at the peak)" % ((now - empty) / options.messages, (most - empty) / options.messages))
    say("spool", "%.2f GB in %d segments" % (figures["spool_disk_bytes"] / 1e9, figures["spool_segments"]))
    verdicts.at_most("memory, all deferred (VmRSS)", now / 1e6, MEMORY_MB, "MB")
    verdicts.at_most("memory, most until then (VmHWM)", most / 1e6, MEMORY_MB, "MB")


def timed(count, call):
    """(median, most) in ms of so many calls that return their seconds, with a pause between them."""
    took = []
    for _ in range(count):
        took.append(call() * 1000)
        time.sleep(0.1)
    return statistics.median(took), max(took)


def page(relay, path):
    def call():
        seconds, status, body = relay.get(path)
        if status != 200:
            raise Failure("%s: %d %s" % (path, status, body))
        return seconds

    return call


def queue_json(control):
    def call():
        seconds, text = control.run("--json", "queue")
        json.loads(text)
        return seconds

    return call


def looked_at(programs, internet, relay, options, verdicts):
    print("\n2. looked at, while %d messages/s go through to others" % options.rate, flush=True)
    control = Control(relay)
    has_queue = control.knows("queue")
    seconds = int(options.requests * 0.15 * (4 if has_queue else 2)) + 5
    arguments = ["--rate", options.rate, "--messages", options.rate * seconds, "--sessions", 32]
    arguments += ["--domain-pattern", "d%d%%05d.test" % (GOOD_FIRST // 100000), "--domains", GOOD_COUNT]
    before_s = relay.cpu()
    source = send(programs, internet, relay, options, arguments)
    time.sleep(2)
    calls = [("/metrics", page(relay, "/metrics"), METRICS_MS), ("/health", page(relay, "/health"), METRICS_MS)]
    if has_queue:
        calls.append(("ctl queue", lambda: control.run("queue")[0], QUEUE_MS))
        calls.append(("ctl queue --json", queue_json(control), QUEUE_MS))
    else:
        print("!!! SKIPPED ctl queue: this ringpost has no such command", flush=True)
    for name, call, limit_ms in calls:
        median, most = timed(options.requests, call)
        say(name, "median %.1f ms, most %.1f ms of %d" % (median, most, options.requests))
        verdicts.at_most("%s, the slowest" % name, most, limit_ms, "ms")
    if not source.running():
        print("!!! the messages had all gone through before the last look: --rate is too high for this machine, or --requests too many", flush=True)
    wait_for(relay, lambda: not source.running(), lambda: "the source sends", options.limit)
    report = injected(source)
    sent = options.rate * seconds
    wait_for(relay, lambda: internet.arrived() >= sent, lambda: "%d of %d arrived" % (internet.arrived(), sent), 60)
    say("meanwhile", "%d messages, injection p50 %.1f ms, p99 %.1f ms" % (sent, report["injection_ms"]["p50"], report["injection_ms"]["p99"]))
    say("CPU", "%.1f us a message" % ((relay.cpu() - before_s) * 1e6 / sent))


def started_again(relay, options, verdicts):
    print("\n3. SIGTERM, and the start", flush=True)
    begin = time.monotonic()
    status = relay.program.stop(options.limit)
    if status != 0:
        raise Failure("ringpost ended with status %s:\n  %s" % (status, "\n  ".join(relay.log())))
    say("ended within", "%.1f s" % (time.monotonic() - begin))
    before_s = relay.cpu()
    begin = time.monotonic()
    relay.start(options.limit)
    ready_s = time.monotonic() - begin
    figures, spent = relay.metrics(), relay.cpu() - before_s
    restored, unloaded = int(figures["queued_messages"]), int(figures["queue_messages_unloaded"])
    now, most = relay.memory()
    directory = os.path.join(relay.directory, "spool")
    say("ready after", "%.1f s, %.1f s of CPU; spool on %s (%s)" % (ready_s, spent, *harness.mount(directory)))
    say("messages back", "%d, without room %d" % (restored, unloaded))
    say("memory now, most", "%s, %s" % (mb(now), mb(most)))
    verdicts.at_most("ready after a restart", ready_s, RESTART_S, "s")
    verdicts.none("messages not back", options.messages - restored)
    verdicts.at_most("memory after the restart (VmHWM)", most / 1e6, MEMORY_MB, "MB")


def hurry(relay):
    """True if everything was told to go now."""
    control = Control(relay)
    if not control.knows("retry"):
        print("!!! no ringpost ctl retry: every message waits until it is due (queue.retry_initial %d s)" % relay.retry_s, flush=True)
        return False
    try:
        control.run("retry", "--all")
    except Failure as failure:
        print("!!! %s: every message waits until it is due" % failure, flush=True)
        return False
    return True


def drained(internet, relay, options, verdicts):
    print("\n4. the sites accept", flush=True)
    internet.accept(options.messages)
    begin, before_s = time.monotonic(), relay.cpu()
    at_once = hurry(relay)
    wait_for(relay, lambda: internet.arrived() > 0 or not internet.running(), lambda: "nothing is due yet", options.limit)
    first_s = time.monotonic() - begin

    def tell():
        return "%d arrived, %d/s, %s" % (internet.arrived(), internet.progress.rate("sink"), mb(relay.memory()[0]))

    wait_for(relay, lambda: not internet.running(), tell, options.limit)
    wait_for(relay, lambda: relay.metrics()["queued_messages"] == 0, tell, 60)
    spent = relay.cpu() - before_s
    now, most = relay.memory()
    report = internet.end()[0]
    say("the first arrived after", "%.1f s" % first_s)
    pace = "" if at_once else ", as they came due"
    say("all were there after that", "%.1f s, %.0f messages/s%s" % (report["seconds"], report["messages_per_second"], pace))
    figures = relay.metrics()
    say("tries that failed meanwhile", "%d (DNS queries without answer %d)" % (figures["deferred_total"], figures["dns_timeouts_total"]))
    say("CPU", "%.1f us a message" % (spent * 1e6 / options.messages))
    say("memory now, most", "%s, %s" % (mb(now), mb(most)))
    verdicts.at_most("memory while it drains (VmHWM)", most / 1e6, MEMORY_MB, "MB")
    for key in ("lost", "duplicated", "corrupt", "misdelivered", "misrouted"):
        verdicts.none(key, report[key])


def million(options, programs, directory):
    internet = Internet(programs, options)
    internet.refuse()
    relay = Relay(programs, directory, internet, options)
    print("%s, commit %s, %s" % (Ringpost.version(options), harness.git_commit(), harness.machine()))
    print(
        "durability %s, spool on %s, limits.memory %s, queue.retry_initial %d s"
        % (relay.durability, harness.file_system(directory), options.memory, relay.retry_s),
        flush=True,
    )
    verdicts = Verdicts()
    try:
        relay.start()
        all_deferred(programs, internet, relay, options, verdicts)
        if options.pause:
            input("pid %d; Enter: on" % relay.program.process.pid)
        looked_at(programs, internet, relay, options, verdicts)
        started_again(relay, options, verdicts)
        for report in internet.end():
            bad = harness.bad_figures(report)
            verdicts.none("wrong with the messages to others %s" % (bad or ""), sum(bad.values()))
        drained(internet, relay, options, verdicts)
    finally:
        status = relay.stop()
    if status != 0:
        raise Failure("ringpost ended with status %s:\n  %s" % (status, "\n  ".join(relay.log())))
    return 0 if verdicts.print() else 1


def main():
    options = parse_arguments()
    options.build = os.path.abspath(options.build)
    Ringpost.binary = os.path.join(options.build, "ringpost")
    if not 1 <= options.domains <= DOMAINS_MAX or options.messages < 1:
        print("--domains: from 1 to %d; --messages: at least 1" % DOMAINS_MAX, file=sys.stderr)
        return 2
    directory = harness.make_directory(options.directory or options.build, "million")
    try:
        return harness.main_with_cleanup(lambda programs: million(options, programs, directory))
    finally:
        if options.keep:
            print("kept %s" % directory)
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
