"""The users file: `ringpost ctl user`, several at a time, and a relay that takes it anew."""
import os
import pty
import re
import signal
import subprocess

from harness import equal, run_all, run_program, test, until
from relay import SANITIZER, Ringpost, binary


def run_user(path, *arguments, stdin=b""):
    """(exit status, output, errors)"""
    command = [binary(), "ctl", "user", "--file", path] + list(arguments)
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
    errors = done.stderr.decode()
    if SANITIZER.search(errors):
        raise AssertionError("user %s: %s" % (arguments, errors[:4000]))
    return done.returncode, done.stdout.decode(), errors


def user(path, *arguments, stdin=b""):
    code, output, errors = run_user(path, *arguments, stdin=stdin)
    equal((code, errors), (0, ""), "user %s" % (arguments,))
    return output


def refused(path, status, part, *arguments, stdin=b""):
    before = open(path, "rb").read() if os.path.exists(path) else None
    code, output, errors = run_user(path, *arguments, stdin=stdin)
    equal((code, output, part in errors), (status, "", True), "user %s says %r" % (arguments, errors))
    equal(open(path, "rb").read() if os.path.exists(path) else None, before, "the file")


@test
def users_are_added_changed_and_removed(t):
    path = t.path("users")
    user(path, "add", "ann@example.org", "--password-stdin", "--senders", "@example.org,<>", "--per-hour", "100", "--tenant", "acme", stdin=b"a secret\n")
    user(path, "add", "bob", "--password-stdin", "--method", "$6$", "--no-scram", stdin=b"another")
    equal(os.stat(path).st_mode & 0o777, 0o600, "its mode")
    equal(user(path, "list"), "ann@example.org password scram senders=@example.org,<> per_hour=100 tenant=acme\nbob password\n", "list")
    lines = open(path, encoding="ascii").read().splitlines()
    equal(len(lines), 2, "lines")
    for line, shape in zip(lines, (r"ann@example\.org password=\$y\$\S+ scram=4096:\S{24}:\S{44}:\S{44} senders=\S+ per_hour=100 tenant=acme", r"bob password=\$6\$\S+")):
        if not re.fullmatch(shape, line):
            raise AssertionError(line)
    if "secret" in "".join(lines):
        raise AssertionError("the password is in the file")
    os.chmod(path, 0o640)
    user(path, "set", "bob", "--disable", "--recipients", "50", "--senders", "bob@example.org")
    user(path, "set", "ann@example.org", "--per-hour", "", "--tenant", "", "--per-day", "7")
    equal(user(path, "list"), "ann@example.org password scram senders=@example.org,<> per_day=7\nbob password senders=bob@example.org recipients=50 disabled\n", "list")
    equal(open(path, encoding="ascii").read().splitlines()[1].split()[1], lines[1].split()[1], "bob's password")
    user(path, "passwd", "bob", "--password-stdin", stdin=b"new")
    if open(path, encoding="ascii").read().splitlines()[1].split()[1] == lines[1].split()[1]:
        raise AssertionError("passwd changed nothing")
    user(path, "set", "bob", "--enable")
    user(path, "del", "ann@example.org")
    equal(user(path, "list"), "bob password scram senders=bob@example.org recipients=50\n", "list")
    equal(os.stat(path).st_mode & 0o777, 0o640, "its mode")


@test
def what_cannot_be_done(t):
    path = t.path("users")
    refused(path, 1, "cannot be read", "list")
    user(path, "add", "ann", "--password-stdin", stdin=b"secret\n")
    refused(path, 1, "is there already", "add", "ann", "--password-stdin", stdin=b"secret\n")
    refused(path, 1, "no user", "passwd", "bob", "--password-stdin", stdin=b"secret\n")
    refused(path, 1, "no user", "del", "bob")
    refused(path, 1, "no user", "set", "bob", "--disable")
    refused(path, 1, "is empty", "add", "bob", "--password-stdin", stdin=b"\n")
    refused(path, 1, "control character", "add", "bob", "--password-stdin", stdin=b"a\tb\n")
    refused(path, 1, "too long", "add", "bob", "--password-stdin", stdin=b"x" * 512)
    refused(path, 1, "no such method", "add", "bob", "--password-stdin", "--method", "$no$", stdin=b"secret\n")
    refused(path, 2, "blank", "add", "b b", "--password-stdin", stdin=b"secret\n")
    refused(path, 2, "blank", "set", "ann", "--tenant", "a disabled")
    refused(path, 2, "UTF-8", "add", "b\nb", "--password-stdin", stdin=b"secret\n")
    refused(path, 2, "begin with #", "add", "#b", "--password-stdin", stdin=b"secret\n")
    refused(path, 2, "senders=", "set", "ann", "--senders", "nonsense")
    refused(path, 2, "--per-day 0 is no number", "set", "ann", "--per-day", "0")
    refused(path, 2, "not for set", "set", "ann", "--password-stdin")
    refused(path, 2, "not for del", "del", "ann", "--disable")
    refused(path, 2, "needs a setting", "set", "ann")
    refused(path, 2, "needs a NAME", "del")
    refused(path, 2, "exclude each other", "set", "ann", "--disable", "--enable")
    refused(path, 2, "no command", "frobnicate", "ann")
    with open(path, "a", encoding="ascii") as file:
        file.write("bob what\n")
    refused(path, 1, "users:2: it may have", "del", "ann")


@test
def a_password_from_the_terminal(t):
    path = t.path("users")

    def type_in(*answers):
        """What a terminal shows, and the exit status."""
        child, terminal = pty.fork()
        if child == 0:
            os.execv(binary(), [binary(), "ctl", "user", "--file", path, "add", "ann"])
        shown = b""
        try:
            for prompt, answer in zip((b"Password: ", b"Again: "), answers):
                while not shown.endswith(prompt):
                    shown += os.read(terminal, 1000)
                os.write(terminal, answer)
            while True:
                shown += os.read(terminal, 1000)
        except OSError:  # it has ended
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(terminal)
        if b"secret" in shown:
            raise AssertionError("the terminal shows %r" % shown)
        return shown, status

    shown, status = type_in(b"secret\n", b"secreT\n")
    equal((b"not the same" in shown, status, os.path.exists(path)), (True, 1, False), "two passwords")
    shown, status = type_in(b"sec\x03ret\n", b"sec\x03ret\n")
    equal((b"control character" in shown, status, os.path.exists(path)), (True, 1, False), "a key that would interrupt")
    shown, status = type_in(b"secret\n", b"secret\n")
    equal(status, 0, "one password")
    equal(user(path, "list"), "ann password scram\n", "list")


@test
def several_at_a_time_lose_nothing(t):
    path = t.path("users")
    command = [binary(), "ctl", "user", "--file", path, "add", "--password-stdin", "--method", "$5$"]
    running = [subprocess.Popen(command + ["u%d" % i], stdin=subprocess.PIPE, stderr=subprocess.PIPE) for i in range(12)]
    for process in running:
        errors = process.communicate(b"secret\n", timeout=60)[1]
        equal((process.returncode, errors), (0, b""), "add")
    equal(sorted(user(path, "list").splitlines()), sorted("u%d password scram" % i for i in range(12)), "list")


@test
def a_relay_takes_it_anew(t):
    path = t.path("users")
    user(path, "add", "ann", "--password-stdin", stdin=b"secret\n")
    relay = Ringpost(t, {"users": path})
    said = "%s is read again and in use" % path
    equal(subprocess.run([binary(), "ctl", "user", "--config", relay.config_path, "list"], stdout=subprocess.PIPE, check=True).stdout, b"ann password scram\n", "list")
    user(path, "set", "ann", "--disable")
    until(lambda: relay.process.log().count(said) == 1, "the relay has taken it")
    with open(path, "a", encoding="ascii") as file:
        file.write("bob what\n")
    until(lambda: "the users stay as they are: %s:2: it may have" % path in relay.process.log(), "it says what is wrong")
    open(path, "w", encoding="ascii").close()
    until(lambda: relay.process.log().count(said) == 2, "and takes it when it is right again")
    os.chmod(path, 0o644)
    until(lambda: "others may read" in relay.process.log(), "not if everybody can read it")
    os.chmod(path, 0o600)
    until(lambda: relay.process.log().count(said) == 3, "and takes it")
    relay.process.signal(signal.SIGHUP)
    until(lambda: relay.process.log().count(said) == 4, "a signal")


@test
def a_file_that_is_wrong_at_start(t):
    path, config = t.path("users"), t.path("conf.yaml")
    with open(config, "w", encoding="ascii") as file:
        file.write("hostname: relay.example\nlisteners: [{port: 0}]\nusers: %s\nspool: {path: %s}\n" % (path, t.path("spool")))
    for text, mode, part in (("ann what\n", 0o600, "users:1: it may have"), ("ann\n", 0o644, "others may read"), (None, 0, "cannot be read")):
        if text is None:
            os.unlink(path)
        else:
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
            os.chmod(path, mode)
        for more in ((), ("--check",)):
            code, output = run_program([binary(), "--config", config, *more])
            equal((code, part in output), (2, True), "%s %s: %r" % (text, more, output))


if __name__ == "__main__":
    run_all()
