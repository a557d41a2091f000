"""The frame of the integration and crash scripts: test cases, processes, free addresses, waiting.

    from harness import test, run_all

    @test
    def a_name_that_tells_the_fact(t):          # t: Case
        relay = Ringpost(t, {...})
        ...

    run_all()

Each test gets an own directory and own loopback addresses, so tests of one script run side by side. A test fails by raising; whatever it
started is stopped afterwards, in reverse order. Nothing sleeps to be in step with something: until() looks again and again, for a limited time.
`SCRIPT [PART_OF_NAME]...` runs some tests only; KEEP=1 keeps the directories of tests that passed.
"""
import concurrent.futures
import contextlib
import faulthandler
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("RINGPOST_BUILD") or os.path.join(ROOT, "build"))
PATIENCE_S = float(os.environ.get("RINGPOST_TEST_PATIENCE", "40"))  # for anything that must happen: generous, sanitizers and busy machines are slow
RARELY_S = 0.1  # between two looks, in the end
SCRIPT_LIMIT_S = float(os.environ.get("RINGPOST_TEST_LIMIT", "400"))  # under the 420 s after which tests/run.py kills a script without a word

_tests = []
_print_lock = threading.Lock()
_addresses_lock = threading.Lock()
_addresses_taken = set()
_chance = random.SystemRandom()


class Skip(Exception):
    """Raised where something that the test needs is not on this machine."""


def test(function):
    _tests.append(function)
    return function


def until(predicate, what, timeout_s=None, every_s=0.01):
    """Returns the first true value of predicate(), which is asked less and less often; raises when it stays false. `what` may be a function that says how things stand."""
    limit = time.monotonic() + (timeout_s or PATIENCE_S)
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > limit:
            raise AssertionError("waited %.0f s in vain for %s" % (timeout_s or PATIENCE_S, what() if callable(what) else what))
        time.sleep(every_s)
        every_s = min(max(every_s, RARELY_S), every_s * 1.2)


def equal(have, want, what=""):
    if have != want:
        raise AssertionError("%s%r, expected %r" % (what + ": " if what else "", have, want))


def free_address():
    """An own address of 127.0.0.0/8; never handed out twice by this process."""
    with _addresses_lock:
        while True:
            address = "127.%d.%d.%d" % (_chance.randint(16, 250), _chance.randint(1, 250), _chance.randint(2, 250))
            if address not in _addresses_taken:
                _addresses_taken.add(address)
                return address


def free_port(*addresses):
    """A port that is free, for TCP and UDP, on all of these addresses. Below the ephemeral range, where outgoing connections find theirs."""
    while True:
        port = _chance.randint(10100, 31900)
        with _addresses_lock:
            if port in _addresses_taken:
                continue
            try:
                for address in addresses or ("127.0.0.1",):
                    family = socket.AF_INET6 if ":" in address else socket.AF_INET
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        with socket.socket(family, kind) as probe:
                            probe.bind((address, port))
            except OSError:
                continue
            _addresses_taken.add(port)
            return port


def need_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        raise Skip("no IPv6 on loopback here: %s" % error) from None


class Case:
    """What one test owns: a directory (for everyone to enter: some peers drop root) and what is to be stopped at its end."""

    def __init__(self, name):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix="ringpost-", dir=os.environ.get("RINGPOST_TEST_DIR"))
        os.chmod(self.dir, 0o755)
        self._stack = contextlib.ExitStack()
        self._names = {}

    def unique(self, name):
        """name, name-2, name-3.."""
        self._names[name] = self._names.get(name, 0) + 1
        return name if self._names[name] == 1 else "%s-%d" % (name, self._names[name])

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def directory(self, *parts, mode=0o755):
        path = self.path(*parts)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        return path

    def write(self, name, text):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb" if isinstance(text, bytes) else "w") as file:
            file.write(text)
        return path

    def at_end(self, function, *arguments):
        self._stack.callback(function, *arguments)

    def close(self):
        self._stack.close()


class Process:
    """A program with its output in a file. Ended by its pid, never by name; `group` also ends what it has forked."""

    def __init__(self, case, name, command, env=None, cwd=None, group=True, stdin=None):
        self.name = name
        self.command = command
        self.log_path = case.path(name + ".log")
        self._group = group
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(
                command,
                stdin=stdin or subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd or case.dir,
                env={**os.environ, **(env or {})},
                start_new_session=group,
            )
        case.at_end(self.end)

    @property
    def pid(self):
        return self.popen.pid

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def running(self):
        return self.popen.poll() is None

    def wait_line(self, pattern, timeout_s=None):
        expression = re.compile(pattern, re.M)

        def look():
            found = expression.search(self.log())
            if not found and not self.running():
                found = expression.search(self.log())
                if not found:
                    raise AssertionError(
                        "%s ended with %s before it wrote /%s/:\n%s" % (self.name, self.popen.returncode, pattern, self.log()[-3000:])
                    )
            return found

        return until(look, lambda: "/%s/ from %s, which wrote:\n%s" % (pattern, self.name, self.log()[-3000:]), timeout_s)

    def wait_port(self, address, port, timeout_s=None):
        def look():
            if not self.running():
                raise AssertionError("%s ended with %s before it listened:\n%s" % (self.name, self.popen.returncode, self.log()[-3000:]))
            return listens(address, port)

        until(look, lambda: "%s on %s:%d, which wrote:\n%s" % (self.name, address, port, self.log()[-3000:]), timeout_s)

    def wait(self, timeout_s=None):
        try:
            return self.popen.wait(timeout_s or PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError("%s does not end:\n%s" % (self.name, self.log()[-3000:])) from None

    def signal(self, number):
        if self.running():
            self.popen.send_signal(number)

    def end(self):
        """For clean-up: asks, then kills, together with what was forked."""
        if self.running():
            self.popen.terminate()
            try:
                self.popen.wait(5)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        if self._group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.popen.pid, signal.SIGKILL)


def listens(address, port):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        return probe.connect_ex((address, port)) == 0


def run_program(command, timeout_s=None, stdin=None, env=None, cwd=None):
    """Runs it to its end; returns (exit code, output with errors)."""
    done = subprocess.run(
        command,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_s or PATIENCE_S,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def side_by_side(functions):
    """Calls all of them at once, each in its own thread; raises the first error, if any."""
    with concurrent.futures.ThreadPoolExecutor(max(1, len(functions))) as workers:
        for result in [workers.submit(function) for function in functions]:
            result.result()


def need_program(path, hint="tests/lib/get-peers.sh fetches it"):
    found = (
        path
        if os.path.isabs(path) and os.access(path, os.X_OK)
        else None
        if os.path.isabs(path)
        else shutil.which(path, path="/usr/sbin:/sbin:" + os.environ["PATH"])
    )
    if not found:
        raise Skip("no %s here; %s" % (path, hint))
    return found


def _caught(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:  # pylint: disable=broad-except # whatever goes wrong is a failed test
        return error
    return None


def _run_one(function):
    name = function.__name__
    started = time.monotonic()
    case = Case(name)
    result, detail = "ok", ""
    error = _caught(function, case)
    at_end = _caught(case.close)
    if isinstance(error, Skip):
        result, detail = "skipped", str(error)
    elif error or at_end:
        first = error or at_end
        why = str(first).strip().split("\n")[0] or type(first).__name__
        result, detail = "not ok", "%s%s" % ("" if isinstance(first, AssertionError) else type(first).__name__ + ": ", why)
        for one in filter(None, (error, at_end)):
            detail += "\n# " + "\n# ".join("".join(traceback.format_exception(one, chain=False)).rstrip().splitlines()[-40:])
        detail += "\n# files: %s   again: %s %s" % (case.dir, sys.argv[0], name)
    took = time.monotonic() - started
    with _print_lock:
        print("%s %s%s%s" % (result, name, ": " + detail if detail else "", "  # %.1f s" % took if result == "ok" else ""), flush=True)
    if result != "not ok" and not os.environ.get("KEEP"):
        shutil.rmtree(case.dir, ignore_errors=True)
    return result


def run_all(jobs=4):
    """Runs the tests of this script, `jobs` at a time, prints a line for each, and exits."""
    faulthandler.dump_traceback_later(SCRIPT_LIMIT_S, exit=True)
    wanted = [t for t in _tests if not sys.argv[1:] or any(part in t.__name__ for part in sys.argv[1:])]
    with concurrent.futures.ThreadPoolExecutor(max(1, jobs)) as workers:
        results = list(workers.map(_run_one, wanted))
    sys.exit(1 if "not ok" in results or not results else 0)
