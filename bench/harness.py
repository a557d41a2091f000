"""What demo.py and run.py share: programs started and ended by pid, processor time of a relay and all its processes, source, sink, relays under
test."""
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import summary

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CGROUP_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """Something that ends the run, with a text for the user."""


class Progress:
    """Works for whatever is told by lines like `source seconds=3 accepted=1200 ...`."""

    def __init__(self):
        self.values = {}

    def line(self, text):
        name, _, rest = text.partition(" ")
        fields = dict(word.split("=", 1) for word in rest.split() if "=" in word)
        if fields:
            numbers = {key: float(value) for key, value in fields.items() if re.fullmatch(r"[\d.]+", value)}
            self.values.setdefault(name, {}).update(numbers, told_at=time.monotonic())

    def get(self, name, key):
        return self.values.get(name, {}).get(key, 0)

    def rate(self, name):
        """0 once it tells no more: a line comes each second."""
        return self.get(name, "rate") if time.monotonic() - self.get(name, "told_at") < 2 else 0


class Program:
    """A child process. Its standard error, and with `merge` its output too, is read line by line; what does not look like progress is kept. With
    `log` both go to that file instead, and nothing is read: for those that write much."""

    def __init__(self, command, progress=None, merge=False, cpus=None, cgroup=None, log=None):
        self.command = [str(word) for word in command]
        self.name = os.path.basename(self.command[0])
        self._log = log
        self._lines = []
        self._progress = progress
        self._ready = threading.Event()

        def before_exec():
            os.setpgid(0, 0)  # Ctrl-C is for the script, which ends its children itself
            if cpus is not None:
                os.sched_setaffinity(0, cpus)
            if cgroup is not None:
                with open(os.path.join(cgroup, "cgroup.procs"), "w") as file:
                    file.write("0")

        output = subprocess.PIPE if log is None else open(log, "ab")
        try:
            self.process = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=subprocess.PIPE if log is None and not merge else subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=before_exec,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise Failure("cannot start %s: %s" % (self.command[0], error))
        finally:
            if log is not None:
                output.close()
        self._output = []
        self._threads = []
        if log is None:
            self._threads.append(threading.Thread(target=self._read, args=(self.process.stdout, merge), daemon=True))
        if log is None and not merge:
            self._threads.append(threading.Thread(target=self._read, args=(self.process.stderr, True), daemon=True))
        for thread in self._threads:
            thread.start()

    def _read(self, stream, talk):
        for line in stream:
            if not talk:
                self._output.append(line)
            elif self._progress is not None and line.startswith(self.name + " seconds="):
                self._progress.line(line)
            else:
                self._lines.append(line.rstrip("\n"))
                if line.startswith("ready"):
                    self._ready.set()

    def tail(self, count=20):
        """The last lines it wrote."""
        if self._log is None:
            return self._lines[-count:]
        with open(self._log, errors="replace") as file:
            return file.read().splitlines()[-count:]

    def _until(self, ready, limit_s):
        """ready() waits a moment itself."""
        deadline = time.monotonic() + limit_s
        while not ready():
            if self.process.poll() is not None:
                self._join()
                raise Failure("%s ended before it was ready:\n  %s" % (self.name, "\n  ".join(self.tail())))
            if time.monotonic() > deadline:
                raise Failure("%s was not ready within %d s:\n  %s" % (self.name, limit_s, "\n  ".join(self.tail())))

    def wait_ready(self, limit_s=30):
        """Until it says so."""
        self._until(lambda: self._ready.wait(0.05), limit_s)

    def wait_port(self, address, port, limit_s=30):
        """Until somebody listens there: for those that do not say."""

        def listens():
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                if probe.connect_ex((address, port)) == 0:
                    return True
            time.sleep(0.05)
            return False

        self._until(listens, limit_s)

    def running(self):
        return self.process.poll() is None

    def _join(self):
        for thread in self._threads:
            thread.join(5)

    def wait(self, limit_s):
        """True if it ended in time."""
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, limit_s=40):
        """SIGTERM, then SIGKILL. Returns the exit status."""
        if self.running():
            self.process.send_signal(signal.SIGTERM)
        if not self.wait(limit_s):
            self.process.kill()
            self.process.wait()
        self._join()
        return self.process.returncode

    def report(self):
        """The JSON object the program printed at its end."""
        self._join()
        try:
            return json.loads("".join(self._output).strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise Failure("%s gave no report (status %s):\n  %s" % (self.name, self.process.returncode, "\n  ".join(self.tail())))


class Programs:
    """All that were started, so that none is left behind whatever happens."""

    def __init__(self):
        self._all = []

    def start(self, *arguments, **options):
        program = Program(*arguments, **options)
        self._all.append(program)
        return program

    def stop_all(self):
        for program in reversed(self._all):
            if program.running():
                program.stop(10)


def free_port():
    """Below the ephemeral range: a sink listens on whole networks, where connections of others may begin."""
    while True:
        port = random.SystemRandom().randint(10100, 31900)
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))  # free on all addresses
                return port
            except OSError:
                continue


def dns_port():
    """Free for UDP and TCP alike."""
    for _ in range(50):
        port = free_port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failure("no free port for DNS")


class CpuMeter:
    """Processor time and memory of a process and all it starts, ended ones too: by a cgroup of its own (version 2) where one can be made, else by
    walking /proc, where children that were waited for are in their parent's account."""

    def __init__(self):
        self.cgroup = None
        self._root_pid = None
        for root in CGROUP_ROOTS:
            path = os.path.join(root, "ringpost-bench-%d-%d" % (os.getpid(), id(self)))
            try:
                if os.path.exists(os.path.join(root, "cgroup.procs")) and not os.path.exists(os.path.join(root, "tasks")):
                    os.mkdir(path)
                    if os.path.exists(os.path.join(path, "cpu.stat")):
                        self.cgroup = path
                        return
                    os.rmdir(path)
            except OSError:
                continue

    def watch(self, pid):
        self._root_pid = pid

    def seconds(self):
        """(user, system)"""
        if self.cgroup is not None:
            with open(os.path.join(self.cgroup, "cpu.stat")) as file:
                values = dict(line.split() for line in file)
            return int(values["user_usec"]) / 1e6, int(values["system_usec"]) / 1e6
        user = system = 0
        for pid in self.pids():
            try:
                with open("/proc/%d/stat" % pid) as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
        return user / CLOCK_TICKS, system / CLOCK_TICKS

    def pids(self):
        """The process and its descendants alive now."""
        if self.cgroup is not None:
            with open(os.path.join(self.cgroup, "cgroup.procs")) as file:
                return [int(line) for line in file]
        children = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open("/proc/%s/stat" % name) as file:
                        children.setdefault(int(file.read().rpartition(")")[2].split()[1]), []).append(int(name))
                except OSError:
                    continue
        found, todo = [], [self._root_pid]
        while todo:
            pid = todo.pop()
            if pid is not None and os.path.exists("/proc/%d" % pid):
                found.append(pid)
                todo.extend(children.get(pid, []))
        return found

    def peak_memory_kib(self):
        """The sum of the processes' own peaks (VmHWM)."""
        total = 0
        for pid in self.pids():
            try:
                with open("/proc/%d/status" % pid) as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
            except OSError:
                continue
        return total

    def resident_kib(self):
        """The sum of what the processes have in memory now, exactly; None where there is no process."""
        total = None
        for pid in self.pids():
            try:
                with open("/proc/%d/smaps_rollup" % pid) as file:
                    total = (total or 0) + sum(int(line.split()[1]) for line in file if line.startswith("Rss:"))
            except OSError:
                continue
        return total

    def close(self):
        if self.cgroup is None:
            return
        for _ in range(50):  # processes that were reaped a moment ago may still be leaving
            try:
                os.rmdir(self.cgroup)
                break
            except OSError:
                time.sleep(0.02)
        self.cgroup = None


class Relay:
    """A relay under test. A subclass says how it is set up and started; the rest is common.

    It is told: a directory of its own, the DNS server to ask, the port that MX hosts listen on. It has to take mail for any domain from 127.0.0.1 on
    `self.port`. `durability` says what its 250 promises, `note` what else sets it apart from the others. `share` is how much of a workload's
    messages it gets, so that a slower one does not take all the time: what is compared is a cost per message.
    """

    name = ""
    durability = ""
    note = ""
    share = 1.0

    def __init__(self, programs, directory, dns, mx_port, cpus=None):
        self.programs = programs
        self.directory = directory
        self.dns = dns
        self.mx_port = mx_port
        self.cpus = cpus
        self.port = free_port()
        self.address = "127.0.0.1:%d" % self.port
        self.meter = CpuMeter()
        self.program = None

    @classmethod
    def available(cls, options):
        """None, or why it cannot be tested here."""
        return None

    @classmethod
    def version(cls, options):
        """Its name and version, for the record."""
        return ""

    def start(self):
        raise NotImplementedError

    def cpu_seconds(self):
        return self.meter.seconds()

    def peak_memory_kib(self):
        return self.meter.peak_memory_kib()

    def resident_kib(self):
        return self.meter.resident_kib()

    def alive(self):
        return self.program is None or self.program.running()

    def stop(self):
        status = self.program.stop() if self.program is not None else 0
        self.meter.close()
        return status

    def log(self):
        """The last lines it wrote."""
        return self.program.tail() if self.program is not None else []


class Ringpost(Relay):
    """`delivery` and `more`: lines of its configuration besides, the former of that section, the latter at the end."""

    name = "ringpost"
    binary = os.path.join(ROOT, "build", "ringpost")

    def __init__(
        self,
        *arguments,
        shards=0,
        durability="sync",
        connections_per_site=10,
        messages_per_connection=100,
        events=False,
        delivery=(),
        more=(),
        certificate=None,
        **options
    ):
        super().__init__(*arguments, **options)
        self.delivery = delivery
        self.more = more
        self.certificate = certificate  # (certificate, key), PEM files; None: no TLS is offered
        self.shards = shards
        self.durability = durability
        self.connections_per_site = connections_per_site
        self.messages_per_connection = messages_per_connection
        self.events = events

    @classmethod
    def available(cls, options):
        return None if os.access(cls.binary, os.X_OK) else "%s is not built" % cls.binary

    @classmethod
    def version(cls, options):
        return subprocess.run([cls.binary, "--version"], capture_output=True, text=True).stdout.strip()

    def configuration(self):
        return """hostname: relay.bench.test
shards: %d
spool: {path: "%s/spool", durability: %s}
listeners:
  - {address: "127.0.0.1", port: %d, tls: %s}
%sdns: {servers: ["%s"]}
delivery:
  port: %d
  connections_per_site: %d
  messages_per_connection: %d
%s%s%s""" % (
            self.shards,
            self.directory,
            self.durability,
            self.port,
            "none" if self.certificate is None else "starttls",
            "" if self.certificate is None else 'tls: {certificates: [{cert: "%s", key: "%s"}]}\n' % self.certificate,
            self.dns,
            self.mx_port,
            self.connections_per_site,
            self.messages_per_connection,
            "".join("  %s\n" % line for line in self.delivery),
            "".join("%s\n" % line for line in self.more),
            'events: {path: "%s/events"}\n' % self.directory if self.events else "",
        )

    def configuration_path(self):
        return os.path.join(self.directory, "ringpost.yaml")

    def start(self, limit_s=30):
        """May be called again when the program has ended."""
        os.makedirs(os.path.join(self.directory, "spool"), exist_ok=True)
        with open(self.configuration_path(), "w") as file:
            file.write(self.configuration())
        command = [self.binary, "--config", self.configuration_path()]
        self.program = self.programs.start(command, merge=True, cpus=self.cpus, cgroup=self.meter.cgroup)
        self.meter.watch(self.program.process.pid)
        self.program.wait_ready(limit_s)


class Direct(Relay):
    """No relay: the source sends to the sink. Shows what source and sink could do by themselves."""

    name = "direct"
    durability = "none"

    def start(self):
        self.address = "%s:%d" % (exchanger(0), self.mx_port)
        self.meter.watch(None)


SINK_HOSTS = "127.0.1.%d"


def domain_name(number):
    """As source and sink name them."""
    return "d%05d.test" % number


def exchanger(number):
    """The address of a domain's only MX host: the sink gives them out in turn, and leaves out the first and the last address of the network."""
    return SINK_HOSTS % (1 + number % 254)


class World:
    """Sink with DNS, and the relay in front of it: one run's surroundings."""

    def __init__(self, programs, build, directory, progress, sink_options=(), cpus=None):
        self.build = build
        self.programs = programs
        self.progress = progress
        self.directory = directory
        self.cpus = cpus
        self.mx_port = free_port()
        self.dns = "127.0.0.1:%d" % dns_port()
        self.sink = programs.start(
            [
                os.path.join(build, "bench", "sink"),
                "--listen",
                "%s/24:%d" % (SINK_HOSTS % 0, self.mx_port),
                "--dns",
                self.dns,
                "--json",
                "--progress",
                *sink_options,
            ],
            progress=progress,
            cpus=cpus,
        )
        self.sink.wait_ready()

    def source(self, address, options):
        return self.programs.start(
            [os.path.join(self.build, "bench", "source"), "--to", address, "--json", "--progress", *options], progress=self.progress, cpus=self.cpus
        )


def check_alive(relay):
    if not relay.alive():
        raise Failure(
            "%s ended in the middle of the run (status %s):\n  %s" % (relay.name, relay.program.process.returncode, "\n  ".join(relay.log()))
        )


def warm_up(world, relay, source_options, count, limit_s):
    """So many messages first: its processes are started then, its files made, its connections open. With --warm-up they are in the sink's books,
    but not in its rate."""
    source = world.source(relay.address, source_options)
    deadline = time.monotonic() + limit_s
    while source.running() or world.progress.get("sink", "arrived") < count:
        check_alive(relay)
        if time.monotonic() > deadline:
            raise Failure("%s is not done with the warm-up in time:\n  %s" % (relay.name, "\n  ".join(relay.log())))
        if not source.running() and source.process.returncode != 0:
            raise Failure("%s did not take all messages of the warm-up:\n  %s" % (relay.name, "\n  ".join(relay.log())))
        time.sleep(0.05)
    world.sink.process.send_signal(signal.SIGUSR2)  # taken at once, before the next source has even connected


class IdleSessions:
    """So many besides those that send: the relay's banner and its answer to EHLO have been read on each. Held by a source of their own, so that the
    one that is measured has the same work with and without them."""

    def __init__(self, world, relay, count, limit_s=60):
        self.count = count
        before_kib = relay.resident_kib()
        self._holder = world.source(relay.address, ["--sessions", 0, "--idle", count])
        self._holder.wait_ready(limit_s)
        after_kib = relay.resident_kib()
        self.bytes_each = None if before_kib is None or after_kib is None else summary.bytes_each(before_kib, after_kib, count)

    def close(self):
        """True if all were open all the time. They say QUIT: the relay closes first, and no port of the holder stays taken for a minute."""
        self._holder.stop()
        sessions = self._holder.report()["sessions"]
        return sessions["idle"] == self.count and sessions["broken"] == 0


class Patience:
    """With what may still come after the source has ended: nothing new for so long, and it is lost."""

    def __init__(self, quiet_s):
        self._quiet_s = quiet_s
        self._arrived = None
        self._since = 0

    def over(self, arrived):
        if arrived != self._arrived:
            self._arrived, self._since = arrived, time.monotonic()
        return time.monotonic() - self._since > self._quiet_s


def run_once(world, relay, source_options, limit_s, tick=None, quiet_s=30):
    """Source through relay into sink, until the sink has all that it expects; or nothing more has come for quiet_s (less if the source could not
    get rid of all), or limit_s is over: what is missing then is among the figures, as lost. The figures of one run."""
    before = relay.cpu_seconds() if relay.program is not None else (0, 0)
    source = world.source(relay.address, source_options)
    deadline = time.monotonic() + limit_s
    patience = None
    while world.sink.running():
        if tick is not None:
            tick()
        check_alive(relay)
        if not source.running() and patience is None:
            patience = Patience(quiet_s if source.process.returncode == 0 else min(5, quiet_s))
        if time.monotonic() > deadline or (patience is not None and patience.over(world.progress.get("sink", "arrived"))):
            source.stop()
            world.sink.stop()
        time.sleep(0.05)
    user, system = relay.cpu_seconds() if relay.program is not None else (0, 0)
    peak = relay.peak_memory_kib() if relay.program is not None else 0
    source.wait(60)
    injected, arrived = source.report(), world.sink.report()
    messages = max(arrived["timed"], 1)
    return {
        "source": injected,
        "sink": arrived,
        "user_us": (user - before[0]) * 1e6 / messages,
        "system_us": (system - before[1]) * 1e6 / messages,
        "cpu_us": (user - before[0] + system - before[1]) * 1e6 / messages,
        "peak_memory_kib": peak,
        "messages": messages,
        "rate": arrived["messages_per_second"],
        "well": source.process.returncode == 0 and not bad_figures(arrived),
    }


def bad_figures(sink_report):
    """What must be zero and is not."""
    return {key: sink_report[key] for key in ("lost", "duplicated", "corrupt", "misdelivered", "misrouted") if sink_report[key] > 0}


def git_commit():
    result = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=ROOT, capture_output=True, text=True)
    return result.stdout.strip() or "unknown"


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return "%d x %s, Linux %s" % (os.cpu_count(), model, os.uname().release)


def mount(path):
    """(device, type) of the file system it is on, such as /dev/sda1 and ext4, from the table of mounts: statfs does not tell ext2, ext3 and ext4
    apart."""
    path, best, found = os.path.realpath(path), "", ("unknown", "unknown")
    with open("/proc/self/mounts") as file:
        for line in file:
            device, place, kind = line.split()[:3]
            place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), place)
            inside = path == place or path.startswith(place.rstrip("/") + "/")
            if inside and len(place) >= len(best):  # of two at one place the later hides the other
                best, found = place, (device, kind)
    return found


def file_system(path):
    return mount(path)[1]


def make_directory(parent, name):
    path = os.path.join(parent, "%s.%d" % (name, os.getpid()))
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def on_signals():
    """SIGTERM like Ctrl-C, so that what was started is ended in any case."""

    def end(number, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)


def main_with_cleanup(work):
    """work(programs) -> exit status; all programs are ended whatever happens."""
    programs = Programs()
    on_signals()
    try:
        return work(programs)
    except Failure as failure:
        print("failed: %s" % failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        programs.stop_all()
