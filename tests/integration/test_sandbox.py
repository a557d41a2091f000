"""What the process may do once it listens, asked from inside: system calls of its own, made by a debugger."""
import os
import pwd
import re
import shutil
import subprocess
import tempfile

from fakemx import FakeMx
from harness import Skip, equal, free_address, free_port, run_all, test
from relay import Ringpost, route, yaml

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"
USER = "nobody"
EPERM, EACCES = 1, 13


def locked(t, config=None, port=None):
    if os.geteuid() != 0:
        raise Skip("needs root")
    address = free_address()
    mx = FakeMx(t, address, free_port(address))
    os.chmod(t.path(""), 0o755)
    relay = Ringpost(t, {"user": USER, "routes": [route("*", (mx.address, mx.port))], **(config or {})}, release=True, start=False)
    if port is not None:
        relay.port = relay.config["listeners"][0]["port"] = port
    t.write(relay.name + ".yaml", yaml(relay.config) + "\n")
    return relay.start()


def threads(relay):
    folder = "/proc/%d/task" % relay.process.pid
    found = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name, "status")) as status:
            found[name] = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
    return found


def calls(relay, *expressions):
    """What each gives, and errno behind it."""
    if not shutil.which("gdb"):
        raise Skip("no gdb")
    command = ["gdb", "-q", "-nx", "-batch", "-p", str(relay.process.pid)]
    for expression in expressions:
        command += ["-ex", "printf \"= %%ld\", (long)(%s)" % expression, "-ex", "printf \" %d\\n\", *(int*)__errno_location()"]
    output = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = [(int(value), int(number)) for value, number in re.findall(r"^= (-?\d+) (\d+)$", output.stdout, re.M)]
    if len(found) != len(expressions):
        raise AssertionError("%s\n%s" % (output.stdout[-2000:], output.stderr[-2000:]))
    return found


def opened(path, flags=0):
    return '((int(*)(const char*,int,...))open)("%s",%d,0600)' % (path, flags)


@test
def nobody_has_capabilities(t):
    relay = locked(t, port=25)
    uid = pwd.getpwnam(USER).pw_uid
    seen = threads(relay)
    if len(seen) < 4:
        raise AssertionError("only %d threads" % len(seen))
    for name, status in seen.items():
        have = {key: status[key].strip() for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
        equal(have, {key: "0" * 16 for key in have}, "thread " + name)
        equal((status["NoNewPrivs"].strip(), status["Seccomp"].strip()), ("1", "2"), "thread " + name)
        equal(set(status["Uid"].split()), {str(uid)}, "thread " + name)
        equal(status["Groups"].split(), [str(pwd.getpwnam(USER).pw_gid)], "thread " + name)
    relay.send("a@b.example", "c@d.example", CONTENT)
    relay.wait_outcomes(1)


@test
def its_files_are_its_own(t):
    relay = locked(t)
    outside = tempfile.mkdtemp(dir="/var/tmp")
    t.at_end(lambda: shutil.rmtree(outside))
    os.chmod(outside, 0o777)
    with open(os.path.join(outside, "secret"), "w") as file:
        file.write("x")
    os.chmod(os.path.join(outside, "secret"), 0o644)
    spool = relay.config["spool"]["path"]
    wrong = [opened("/etc/shadow"), opened("/etc/passwd"), opened(os.path.join(outside, "secret")), opened("/tmp/ringpost-was-here", os.O_CREAT | os.O_WRONLY)]
    wrong += [opened(os.path.join(outside, "new"), os.O_CREAT | os.O_WRONLY), opened(relay.config_path, os.O_WRONLY)]
    for expression, (value, number) in zip(wrong, calls(relay, *wrong)):
        if value != -1 or number not in (EACCES, EPERM):
            raise AssertionError("%s gave %d, errno %d" % (expression, value, number))
    right = [opened(os.path.join(spool, "probe"), os.O_CREAT | os.O_WRONLY), opened(os.path.join(relay.events_path, "probe"), os.O_CREAT | os.O_WRONLY)]
    right += [opened(relay.config_path), opened("/etc/resolv.conf")]
    for expression, (value, number) in zip(right, calls(relay, *right)):
        if value < 0:
            raise AssertionError("%s gave errno %d" % (expression, number))


@test
def it_runs_no_programs(t):
    relay = locked(t)
    wrong = [
        '((int(*)(const char*,void*,void*))execve)("/bin/true",0,0)',
        "((int(*)(void))fork)()",
        "((long(*)(int,int,int,int,int))ptrace)(16,1,0,0,0)",
        '((int(*)(const char*))chroot)("/")',
        "((int(*)(int))setuid)(0)",
        "((int(*)(int))unshare)(0x10000000)",
    ]
    for expression, (value, number) in zip(wrong, calls(relay, *wrong)):
        if value != -1 or number != EPERM:
            raise AssertionError("%s gave %d, errno %d" % (expression, value, number))
    relay.send("a@b.example", "c@d.example", CONTENT)
    relay.wait_outcomes(1)


@test
def keys_may_be_of_root_alone(t):
    """They are read before root becomes the user."""
    if os.geteuid() != 0:
        raise Skip("needs root")
    key, cert = t.path("key.pem"), t.path("cert.pem")
    how = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", key, "-out", cert, "-subj", "/CN=own"]
    subprocess.run(how, check=True, capture_output=True, timeout=60)
    os.chmod(key, 0o600)
    relay = locked(t, {"tls": {"certificates": [{"cert": cert, "key": key}]}})
    with relay.client() as client:
        if "STARTTLS" not in client.hello().text:
            raise AssertionError("no STARTTLS")
    value, number = calls(relay, opened(key))[0]
    equal((value, number), (-1, EACCES))


@test
def it_goes_on_after_a_restart(t):
    relay = locked(t)
    relay.send("a@b.example", "c@d.example", CONTENT)
    relay.wait_outcomes(1)
    relay.stop()
    relay.start()
    relay.send("a@b.example", "e@d.example", CONTENT)
    relay.wait_outcomes(2)


@test
def a_user_that_is_none(t):
    if os.geteuid() != 0:
        raise Skip("needs root")
    for name, word in (("nobody-of-that-name", "no user"), ("root", "is root")):
        relay = Ringpost(t, {"user": name}, release=True, start=False, check=False)
        run = subprocess.run([relay.binary, "--config", relay.config_path], capture_output=True, text=True, timeout=20)
        equal(run.returncode, 1)
        if word not in run.stderr or "user" not in run.stderr:
            raise AssertionError(run.stderr)


@test
def the_unit_is_sound(t):
    if not shutil.which("systemd-analyze"):
        raise Skip("no systemd-analyze")
    unit = os.path.join(os.path.dirname(__file__), "..", "..", "dist", "ringpost.service")
    run = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", unit], capture_output=True, text=True, timeout=60)
    if "ignoring" in run.stderr:
        raise AssertionError(run.stderr)
    exposure = float(re.search(r"Overall exposure level for ringpost.service: ([0-9.]+)", run.stdout).group(1))
    if exposure >= 2:
        raise AssertionError("exposure %.1f" % exposure)


run_all()
