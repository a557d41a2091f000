#!/usr/bin/env python3
"""Arrows run down only: reads every #include of the tree and fails on an edge that the table below does not allow.

usage: layers.py [--self-test] [ROOT]

Checked: project includes between folders (ALLOWED), no circle of headers, no included .c file (but for fakes of tests), pure files free of what touches the
kernel, clocks and threads (directly or by way of a header of ours), and who may include <liburing.h> and <errno.h>.
--self-test proves on small made-up trees that each kind of wrong include is found, and that a right tree passes.
"""
import os
import re
import sys
import tempfile

# A folder may include from itself and from those listed; "core/*" stands for all folders below core. main > net > queue, dns > core.
ALLOWED = {
    "core/base": [],
    "core/io": ["core/base"],
    "core/conf": ["core/base"],
    "core/event": ["core/io", "core/base"],
    "core/shard": ["core/event", "core/conf", "core/io", "core/base"],
    "dns": ["core/*"],
    "queue/policy": ["core/*"],
    "queue/spool": ["core/*"],
    "queue": ["queue/*", "core/*"],
    "net/smtp": ["net/auth", "core/base"],
    "net/mail": ["core/base"],
    "net/tls": ["core/base"],
    "net/auth": ["core/*"],
    "net/https": ["core/base"],
    "net/sts": ["net/https", "dns", "core/*"],
    "net/tlsrpt": ["net/https", "net/sts", "net/auth", "net/smtp", "net/mail", "dns", "core/*"],
    "net/in": ["net/auth", "net/smtp", "net/mail", "net/tls", "queue", "queue/*", "dns", "core/*"],
    "net/out": ["net/sts", "net/smtp", "net/mail", "net/tls", "queue", "queue/*", "dns", "core/*"],
    "net/http": ["net/smtp", "net/mail", "net/tls", "queue", "queue/*", "dns", "core/*"],
    "net": ["net/sts", "net/auth", "net/in", "net/out", "net/http", "net/smtp", "net/mail", "net/tls", "queue", "queue/*", "dns", "core/*"],
    "net/control": ["net", "net/auth", "net/in", "net/out", "net/http", "queue", "queue/*", "dns", "core/*"],
    "net/cli": ["net", "net/sts", "net/auth", "net/control", "net/in", "net/out", "net/http", "net/smtp", "net/mail", "net/tls", "queue", "queue/*", "dns", "core/*"],
    "": ["net", "net/*", "queue", "queue/*", "dns", "core/*"],  # main.c
}
# May include anything of the tree; nothing above may include from them.
FREE = ("tests", "bench")

# Prefixes of paths whose files neither do I/O nor know the time, and the exceptions among them.
PURE = ("core/base/", "core/event/event.", "dns/", "net/auth/base64.", "net/auth/sasl.", "net/auth/lockout.", "net/sts/policy.", "net/sts/demand.", "net/out/proof.", "net/tlsrpt/record.", "net/tlsrpt/policy.", "net/tlsrpt/tally.", "net/tlsrpt/report.", "net/tlsrpt/sender.", "net/smtp/", "net/mail/", "queue/policy/", "queue/spool/record.")
IMPURE = ("dns/resolver.", "queue/policy/lease.")
NOT_IN_PURE = {"liburing.h", "sys/socket.h", "time.h", "sys/time.h", "unistd.h", "pthread.h", "netinet/in.h", "arpa/inet.h", "sys/random.h"}

# Who may include these system headers: prefixes of paths. errno is translated into E_... on the line after the call, and goes no further.
RESERVED = {
    "liburing.h": ("core/io/",),
    "errno.h": ("core/io/", "core/base/error.c", "core/conf/system.c", "net/cli/privileges.c", "net/cli/sandbox.c"),
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def folder_of(path):
    return os.path.dirname(path)


def is_free(path):
    return path.split("/", 1)[0] in FREE


def is_pure(path):
    return path.startswith(PURE) and not path.startswith(IMPURE)


def matches(folder, pattern):
    return folder.startswith(pattern[:-1]) if pattern.endswith("/*") else folder == pattern


def read_tree(root):
    """Path -> list of (line, is_system, name)."""
    files = {}
    for top in ("main.c", "core", "net", "dns", "queue") + FREE:
        start = os.path.join(root, top)
        found = [start] if os.path.isfile(start) else [os.path.join(at, name) for at, _, names in os.walk(start) for name in names]
        for path in found:
            if not path.endswith((".c", ".h")):
                continue
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
            includes = [(text.count("\n", 0, hit.start(1)) + 1, hit.group(1) == "<", hit.group(2)) for hit in INCLUDE.finditer(text)]
            files[os.path.relpath(path, root).replace(os.sep, "/")] = includes
    return files


def check_edges(files):
    for path, includes in files.items():
        for line, is_system, name in includes:
            where = "%s:%d" % (path, line)
            if is_system:
                if name in RESERVED and not is_free(path) and not path.startswith(RESERVED[name]):
                    yield "%s: <%s> is for %s alone" % (where, name, ", ".join(RESERVED[name]))
                continue
            if name not in files:
                yield "%s: \"%s\" is no file of the tree (paths start at its root)" % (where, name)
            elif name.endswith(".c") and not (is_free(path) and is_free(name)):  # a test may hold its fakes in one
                yield "%s: includes the source file %s" % (where, name)
            elif not is_free(path):
                source, target = folder_of(path), folder_of(name)
                if source not in ALLOWED:
                    yield "%s: the folder %s has no place among the layers" % (where, source)
                elif source != target and not any(matches(target, pattern) for pattern in ALLOWED[source]):
                    yield "%s: %s must not include from %s" % (where, source or "main.c", target or "the root")


def check_purity(files):
    for path in files:
        if not is_pure(path):
            continue
        waiting, seen = [(path, path)], {path}
        while waiting:
            here, way = waiting.pop()
            for _, is_system, name in files[here]:
                if is_system and name in NOT_IN_PURE:
                    yield "%s: is pure and must not include <%s>%s" % (path, name, "" if here == path else " (by way of %s)" % way)
                elif not is_system and name in files and name not in seen:
                    seen.add(name)
                    waiting.append((name, name if here == path else "%s > %s" % (way, name)))


def find_circle(graph):
    """One circle as a list of nodes, or None."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return path[path.index(node):] + [node]
        if node in done:
            return None
        path.append(node)
        for following in sorted(graph.get(node, ())):
            circle = visit(following)
            if circle:
                return circle
        path.pop()
        done.add(node)
        return None

    for node in sorted(graph):
        circle = visit(node)
        if circle:
            return circle
    return None


def check_circles(files):
    by_file = {path: {name for _, is_system, name in includes if not is_system and name in files} for path, includes in files.items()}
    circle = find_circle(by_file)
    if circle:
        yield "a circle of files: %s" % " > ".join(circle)
    by_folder = {}
    for path, names in by_file.items():
        if not is_free(path):
            by_folder.setdefault(folder_of(path), set()).update(folder_of(name) for name in names if folder_of(name) != folder_of(path))
    circle = find_circle(by_folder)
    if circle:
        yield "a circle of folders: %s" % " > ".join(name or "main.c" for name in circle)


def check_table():
    """The table itself must not allow a circle of folders."""
    graph = {folder: {other for other in ALLOWED if other != folder and any(matches(other, pattern) for pattern in patterns)}
             for folder, patterns in ALLOWED.items()}
    circle = find_circle(graph)
    if circle:
        yield "the table of layers allows a circle: %s" % " > ".join(circle)


def check(root):
    files = read_tree(root)
    faults = list(check_table())
    for checker in (check_edges, check_purity, check_circles):
        faults.extend(checker(files))
    return files, faults


# Name, files, and a part of the fault that must be found; None: no fault.
SELF_TESTS = [
    ("a right tree", {"main.c": '#include "net/cli/serve.h"', "net/cli/serve.h": '#include "net/relay.h"', "net/relay.h": '#include "queue/message.h"',
                      "queue/message.h": '#include <stdint.h>\n#include "core/base/span.h"', "core/base/span.h": "#include <string.h>",
                      "core/io/ring.c": '#include <liburing.h>\n#include <errno.h>\n#include "core/base/span.h"',
                      "tests/unit/test_x.c": '#include "net/relay.h"\n#include <errno.h>\n#include <time.h>'}, None),
    ("core includes from net", {"core/io/ring.c": '#include "net/relay.h"', "net/relay.h": ""}, "core/io must not include from net"),
    ("queue includes from dns", {"queue/message.c": '\n\n#include "dns/mx.h"', "dns/mx.h": ""}, "queue/message.c:3: queue must not include from dns"),
    ("dns includes from queue", {"dns/mx.c": '#include "queue/message.h"', "queue/message.h": ""}, "dns must not include from queue"),
    ("net/smtp includes from net/in", {"net/smtp/server.c": '#include "net/in/session.h"', "net/in/session.h": ""}, "net/smtp must not include from net/in"),
    ("net/in includes from net/out", {"net/in/session.c": '#include "net/out/deliver.h"', "net/out/deliver.h": ""}, "net/in must not include from net/out"),
    ("spool includes from the queue", {"queue/spool/log.c": '#include "queue/message.h"', "queue/message.h": ""}, "queue/spool must not include from queue"),
    ("base includes from io", {"core/base/pool.c": '#  include  "core/io/io.h"', "core/io/io.h": ""}, "core/base must not include from core/io"),
    ("conf includes from io", {"core/conf/conf.c": '#include "core/io/io.h"', "core/io/io.h": ""}, "core/conf must not include from core/io"),
    ("the product includes from tests", {"net/relay.c": '#include "tests/lib/unit.h"', "tests/lib/unit.h": ""}, "net must not include from tests/lib"),
    ("liburing outside core/io", {"core/shard/shard.c": "#include <liburing.h>"}, "<liburing.h> is for core/io/ alone"),
    ("errno outside its list", {"net/relay.c": "#include <errno.h>"}, "<errno.h> is for"),
    ("a clock in a pure file", {"net/smtp/data.c": "#include <time.h>"}, "is pure and must not include <time.h>"),
    ("a socket by way of a header", {"queue/policy/retry.c": '#include "core/io/io.h"', "core/io/io.h": '#include "core/io/more.h"',
                                     "core/io/more.h": "#include <sys/socket.h>"}, "by way of core/io/io.h > core/io/more.h"),
    ("lease is not pure", {"queue/policy/lease.c": "#include <time.h>"}, None),
    ("a circle of headers", {"core/base/a.h": '#include "core/base/b.h"', "core/base/b.h": '#include "core/base/a.h"'}, "a circle of files"),
    ("a circle of folders", {"core/io/a.c": '#include "core/event/b.h"', "core/event/b.h": "", "core/event/c.c": '#include "core/io/d.h"',
                             "core/io/d.h": ""}, "a circle of folders"),
    ("a source file included", {"core/base/a.c": '#include "core/base/b.c"', "core/base/b.c": ""}, "includes the source file"),
    ("a path that is not from the root", {"core/base/a.c": '#include "span.h"', "core/base/span.h": ""}, "is no file of the tree"),
    ("a folder nobody planned", {"core/util/a.c": '#include "core/base/b.h"', "core/base/b.h": ""}, "has no place among the layers"),
]


def self_test():
    failed = 0
    for name, tree, expected in SELF_TESTS:
        with tempfile.TemporaryDirectory() as root:
            for path, text in tree.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)) or root, exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text + "\n")
            faults = check(root)[1]
        good = not faults if expected is None else any(expected in fault for fault in faults)
        if not good:
            failed += 1
            print("layers: self-test: %s: expected %s, found %s" % (name, expected or "no fault", faults))
    return failed


def main():
    arguments = sys.argv[1:]
    if "--self-test" in arguments:
        arguments.remove("--self-test")
        if self_test():
            return 1
    root = arguments[0] if arguments else os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    files, faults = check(root)
    for fault in sorted(faults):
        print("layers: %s" % fault)
    print("layers: %d files, %d faults" % (len(files), len(faults)))
    return 1 if faults or not files else 0


if __name__ == "__main__":
    sys.exit(main())
