"""Ringpost itself: configuration, start, stop, events, health and metrics.

    relay = Ringpost(t, {"routes": [...]})      # started; stopped and examined at the test's end
    id = relay.send("a@b.example", ["c@d.example"], content)
    relay.wait_outcomes(1)

At its end each relay is asked to stop, must exit with 0 and without a word from a sanitizer, and its events must keep the contract (check_events).
"""
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request

import smtp
from fakemx import FakeMx
from harness import BUILD, Case, Process, free_address, free_port, until

SANITIZER = re.compile(r"ERROR: AddressSanitizer|ERROR: LeakSanitizer|runtime error:|ThreadSanitizer|invariant|must\(|assertion", re.I)
FINAL_TYPES = ("Delivery", "Bounce", "Expiration", "AdminBounce")
FAILURE_TYPES = ("TransientFailure", "Bounce", "Expiration", "AdminBounce")
TYPES = FINAL_TYPES + ("Reception", "TransientFailure", "Rejection", "OOB", "Feedback", "Open", "Click", "Unsubscribe")


def binary(release=False):
    path = os.environ.get("RINGPOST_BINARY") or os.path.join(BUILD, "ringpost" if release else "san/ringpost")
    if release:
        path = os.path.join(BUILD, "ringpost")
    if not os.access(path, os.X_OK):
        raise AssertionError("no %s; `make test` builds it" % path)
    return path


def change_user(path, command, name, *options, password=None):
    """`ringpost ctl user` on this file."""
    subprocess.run([binary(True), "ctl", "user", "--file", path, command, name, *options], input=(password or "").encode(), check=True, timeout=60)


def add_user(path, name, password, *options):
    change_user(path, "add", name, "--password-stdin", *options, password=password)


def yaml(value, indent=0):
    """Block style for mappings, flow style for what is in lists: enough for a configuration."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict):
            lines += ["%s%s:" % (" " * indent, key), yaml(item, indent + 2)]
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            lines.append("%s%s:" % (" " * indent, key))
            lines += ["%s  - %s" % (" " * indent, json.dumps(one)) for one in item]
        else:
            lines.append(
                "%s%s: %s" % (" " * indent, key, item if isinstance(item, str) and re.fullmatch(r"[A-Za-z0-9./_-]+", item) else json.dumps(item))
            )
    return "\n".join(lines)


def merge(under, over):
    """`over` wins; None removes a key."""
    result = dict(under)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


def route(domain, *hosts):
    return {"domain": domain, "hosts": ["[%s]:%d" % host if ":" in host[0] else "%s:%d" % host for host in hosts]}


class Ringpost:
    def __init__(self, case: Case, config=None, release=False, start=True, check=True, name=None):
        self.case = case
        name = name or case.unique("ringpost")
        self.name = name
        self.binary = binary(release)
        self.address = free_address()
        self.port = free_port(self.address)
        self.http_port = free_port(self.address)
        self.events_path = case.path(name + "-events")
        self.config = merge(
            {
                "hostname": "relay.ringpost.example",
                "shards": int(os.environ.get("RINGPOST_TEST_SHARDS", "2")),
                "spool": {"path": case.path(name + "-spool"), "durability": "sync", "segment_size": "8MiB"},
                "listeners": [{"address": self.address, "port": self.port}],
                "dns": {"servers": ["%s:9" % self.address]},  # nobody there: what needs DNS says so
                "queue": {"retry_initial": "300ms", "retry_factor": 1.5, "retry_max": "2s"},
                "delivery": {"timeouts": {"connect": "5s", "greeting": "20s", "command": "20s", "data": "30s", "final": "30s"}},
                "dsn": {"send": False},
                "events": {"path": self.events_path},
                "http": {"address": self.address, "port": self.http_port},
            },
            config or {},
        )
        self.config_path = case.write(name + ".yaml", yaml(self.config) + "\n")
        self.process = None
        self.starts = 0
        self.killed = False
        self._check = check
        self._files = {}  # path -> [offset, rest of an unfinished line]
        self._events = []
        if start:
            self.start()

    # ---- life ----

    def start(self, wait=True):
        self.starts += 1
        environment = {
            "ASAN_OPTIONS": "detect_leaks=1:handle_abort=1:" + os.environ.get("ASAN_OPTIONS", ""),
            "UBSAN_OPTIONS": "print_stacktrace=1:" + os.environ.get("UBSAN_OPTIONS", ""),
        }
        self.process = Process(self.case, "%s-%d" % (self.name, self.starts), [self.binary, "--config", self.config_path], env=environment)
        self.case.at_end(self._finish)  # behind the process, so it comes before that is simply ended
        if wait:
            self.process.wait_line(r"^ready\b")
        return self

    def stop(self, timeout_s=None):
        """SIGTERM; exit code 0 and no report of a sanitizer."""
        process, self.process = self.process, None
        process.signal(signal.SIGTERM)
        code = process.wait(timeout_s or 60)
        self._examine(process, code)

    def _examine(self, process, code):
        log = process.log()
        found = SANITIZER.search(log)
        if found or code != 0:
            at = max(0, (found.start() if found else len(log)) - 1500)
            raise AssertionError("%s ended with %s%s:\n%s" % (self.name, code, ", sanitizer report" if found else "", log[at : at + 6000]))

    def kill9(self):
        process, self.process = self.process, None
        if not process.running():
            self._examine(process, process.popen.returncode)
        self.killed = True
        process.signal(signal.SIGKILL)
        process.wait()

    def _finish(self):
        process = self.process
        if process and process.running():
            self.stop()
        elif process:
            self.process = None
            self._examine(process, process.popen.returncode)
        if self._check and self.starts:
            check_events(self.events())
            for line in self._unfinished():
                raise AssertionError("event file ends within a line: %r" % line[:300])

    def log(self):
        return self.process.log() if self.process else ""

    def memory_peak_bytes(self):
        with open("/proc/%d/status" % self.process.pid) as status:
            return int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1)) * 1024

    # ---- mail ----

    def client(self, source=None, **options):
        return smtp.Client(self.address, self.port, source=source, **options)

    def send(self, sender, recipients, content, mail_parameters="", patience_s=0):
        """One message over an own session; returns its id. With patience, 452 means another try, as it does to a real client."""
        recipients = [recipients] if isinstance(recipients, str) else recipients
        limit = time.monotonic() + patience_s
        while True:
            try:
                return smtp.send_message(self.address, self.port, sender, recipients, content, mail_parameters)
            except smtp.Refused as refused:
                if refused.reply.code != 452 or time.monotonic() > limit:
                    raise

    # ---- events ----

    def events(self, kind=None, recipient=None, number=None):
        """All events so far, of this and earlier starts; the files are followed."""
        if os.path.isdir(self.events_path):
            for file in sorted(os.listdir(self.events_path)):
                if file.endswith(".jsonl"):
                    self._read(os.path.join(self.events_path, file))
        return [
            event
            for event in self._events
            if (kind is None or event.get("type") == kind)
            and (number is None or event.get("id") == number)
            and (recipient is None or event.get("recipient") == recipient)
        ]

    def _read(self, path):
        state = self._files.setdefault(path, [0, b""])
        with open(path, "rb") as file:
            file.seek(state[0])
            data = file.read()
        state[0] += len(data)
        *lines, state[1] = (state[1] + data).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line.decode("utf-8"))
            except ValueError as error:
                raise AssertionError("event line is no JSON (%s): %r" % (error, line[:500])) from None
            self._events.append(event)

    def _unfinished(self):
        return [] if self.killed else [state[1] for state in self._files.values() if state[1]]

    def finals(self, recipient=None, number=None):
        return [event for event in self.events(recipient=recipient, number=number) if event["type"] in FINAL_TYPES]

    def wait_outcomes(self, count, timeout_s=None):
        """Waits until so many recipients have come to their end; returns those events."""
        until(
            lambda: len(self.finals()) >= count or self._must_live(),
            lambda: "%d outcomes; there are %s; log:\n%s" % (count, self.tally(), self.log()[-1500:]),
            timeout_s,
        )
        return self.finals()

    def wait_event(self, kind, recipient=None, timeout_s=None):
        return until(
            lambda: self.events(kind, recipient) or self._must_live(),
            lambda: "%s%s; there are %s; log:\n%s" % (kind, " for " + recipient if recipient else "", self.tally(), self.log()[-1500:]),
            timeout_s,
        )[0]

    def _must_live(self):
        """No use in waiting for what a dead process will do."""
        process = self.process
        if process and not process.running():
            self.process = None
            self._examine(process, process.popen.returncode or "0 though nobody had asked it to stop")

    def tally(self):
        counts = {}
        for event in self.events():
            counts[event["type"]] = counts.get(event["type"], 0) + 1
        return counts

    # ---- the side door ----

    def http(self, path):
        """(status, body)"""
        try:
            with urllib.request.urlopen("http://%s:%d%s" % (self.address, self.http_port, path), timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def health(self):
        return self.http("/health")

    def metrics(self):
        """name -> value; the text must be Prometheus' format: every series with HELP and TYPE, no series twice."""
        status, text = self.http("/metrics")
        if status != 200:
            raise AssertionError("/metrics answers %d" % status)
        values, described, typed = {}, set(), set()
        for line in text.splitlines():
            if line.startswith("# HELP "):
                described.add(line.split()[2])
            elif line.startswith("# TYPE "):
                typed.add(line.split()[2])
            elif line:
                found = re.fullmatch(r"([a-z_][a-z0-9_]*)(\{[^}]*\})? (\S+)", line)
                if not found or (found.group(1) + (found.group(2) or "")) in values:
                    raise AssertionError("/metrics has the line %r%s" % (line, " twice" if found else ""))
                if found.group(1) not in described or found.group(1) not in typed:
                    raise AssertionError("/metrics: %s without HELP or TYPE before it" % found.group(1))
                values[found.group(1) + (found.group(2) or "")] = float(found.group(3))
        return values


# ---- the contract of events ----


def _is_text(value):
    return isinstance(value, str) and value != ""


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value):
    return isinstance(value, (int, float)) and abs(value - time.time()) < 86400


def _is_id(value):
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{16}", value) is not None


def _check_response(event):
    response = event.get("response")
    if response is None:
        if event["type"] in ("Delivery", "Bounce", "TransientFailure"):
            return "no response"
        return None
    if not _is_count(response.get("code")) or not 200 <= response["code"] <= 599:
        return "response.code"
    enhanced = response.get("enhanced_code")
    if enhanced is not None and (
        set(enhanced) != {"class", "subject", "detail"}
        or not all(_is_count(part) for part in enhanced.values())
        or enhanced["class"] not in (2, 4, 5)
    ):
        return "response.enhanced_code"
    if not isinstance(response.get("content", ""), str) or not isinstance(response.get("command", ""), str):
        return "response.content or command"
    wanted = {"Delivery": (2,), "TransientFailure": (4, 5), "Bounce": (5,)}.get(event["type"])
    if wanted and response["code"] // 100 not in wanted:
        return "a code of %d in a %s" % (response["code"], event["type"])
    return None


def check_event(event):
    """Says what is wrong with one event, or None."""
    if event.get("type") not in TYPES:
        return "type"
    if not _is_time(event.get("timestamp")):
        return "timestamp"
    if event["type"] == "Rejection":
        return None
    if not _is_id(event.get("id")):
        return "id"
    if not isinstance(event.get("sender"), str):
        return "sender"
    recipient = event.get("recipient")
    if event["type"] == "Reception":
        if not (_is_text(recipient) or (isinstance(recipient, list) and recipient and all(map(_is_text, recipient)))):
            return "recipient"
        if not _is_count(event.get("size")) or event["size"] == 0:
            return "size"
        if event.get("response", {}).get("command") == "DSN":  # a report of the relay's own: nobody handed it in
            return None
        return None if _is_id(event.get("session_id")) and _is_text(event.get("peer_address", {}).get("addr")) else "session_id or peer_address"
    if not _is_text(recipient):
        return "recipient"
    if not _is_text(event.get("queue")) or event["queue"] != recipient.rsplit("@", 1)[-1].lower():
        return "queue %r of %r" % (event.get("queue"), recipient)
    if not _is_time(event.get("created")) or event["created"] > event["timestamp"] + 0.001:
        return "created"
    if not _is_count(event.get("size")) or not _is_count(event.get("num_attempts")):
        return "size or num_attempts"
    if event["type"] == "Delivery" and event.get("response", {}).get("command") != "route":  # what a route discards goes nowhere
        if not _is_text(event.get("site")) or not _is_text(event.get("peer_address", {}).get("addr")) or event["num_attempts"] < 1:
            return "site, peer_address or num_attempts"
        if not _is_text(event.get("source_address")) and not isinstance(event.get("source_address"), dict):
            return "source_address"
    if event["type"] in FAILURE_TYPES:
        if event.get("verdict") not in ("hard", "soft"):
            return "verdict"
        if not _is_text(event.get("category")) or not _is_text(event.get("rule")):
            return "category or rule"
        if event.get("response", {}).get("code", 0) // 100 == 4 and event["verdict"] == "hard":
            return "a hard verdict on a 4xx"
    return _check_response(event)


def received(events):
    """(id, recipient) of all Reception events."""
    pairs = []
    for event in events:
        if event["type"] == "Reception":
            recipients = event["recipient"] if isinstance(event["recipient"], list) else [event["recipient"]]
            pairs += [(event["id"], recipient) for recipient in recipients]
    return pairs


def check_events(events, finished=False, killed=False):
    """Every event well-formed; no recipient with two ends, or an end without a beginning; with `finished`, none without an end. After a kill,
    an event may be there twice or not at all; then only the form is held against the contract."""
    for event in events:
        wrong = check_event(event)
        if wrong:
            raise AssertionError("event breaks the contract: %s: %s" % (wrong, json.dumps(event)))
    if killed:
        return
    told = set()
    for event in events:  # what a full spool could not note is told again, and says so
        if event["type"] == "Reception" and event.get("maybe_duplicate"):
            told |= {pair for pair in received([event])}
    begun = received([event for event in events if not event.get("maybe_duplicate")])
    begun += sorted(told - set(begun))
    if len(set(begun)) != len(begun):
        raise AssertionError("a recipient was received twice in one message: %s" % sorted(p for p in begun if begun.count(p) > 1)[:3])
    ended = {}
    for event in events:
        if event["type"] in FINAL_TYPES:
            pair = (event["id"], event["recipient"])
            if pair in ended:
                raise AssertionError("two ends, %s and %s, for %s" % (ended[pair], event["type"], pair))
            ended[pair] = event["type"]
    strange = set(ended) - set(begun)
    if strange:
        raise AssertionError("an end without a Reception: %s" % sorted(strange)[:3])
    if finished:
        open_ones = set(begun) - set(ended)
        if open_ones:
            raise AssertionError("%d recipients without an end: %s" % (len(open_ones), sorted(open_ones)[:3]))


def relay_and_mx(case, config=None, script=None, release=False, **mx_options):
    """A relay whose mail for every domain goes to one FakeMx."""
    address = free_address()
    mx = FakeMx(case, address, free_port(address), script=script, **mx_options)
    relay = Ringpost(case, merge({"routes": [route("*", (mx.address, mx.port))]}, config or {}), release=release)
    return relay, mx
