#!/usr/bin/env python3
"""Runs the whole test suite and ends with the line `N passed, N failed`.

unit, contract: each Check program (built with sanitizers); counts its checks.
fuzz: each fuzz target over its corpus, tests/fuzz/corpus/NAME.
integration, crash: each tests/integration/test_*.py and tests/crash/test_*.py, a script that prints `ok NAME`, `not ok NAME: why`
or `skipped NAME: why` a line and exits 0 only if nothing failed.
"""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Load the machine, or measure: nothing else runs beside them.
ALONE = ("integration/test_limits", "integration/test_load")
CHECK_LINE = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.M)


def run(command, limit_s, env=None):
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT,
                               env={**os.environ, **(env or {})}, text=True, errors="replace", start_new_session=True)
    try:
        output, _ = process.communicate(timeout=limit_s)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        output, _ = process.communicate()
        output += "\n(killed after %d s)" % limit_s
        code = -9
    return code, output, time.monotonic() - started


def run_check(name, program):
    code, output, took = run([program], 300)
    counts = CHECK_LINE.search(output)
    if not counts:
        return name, 0, 1, [], output, took
    checks, failures, errors = map(int, counts.groups())
    bad = failures + errors
    if code != 0 and bad == 0:
        bad = 1
    return name, checks - failures - errors, bad, [], output, took


def run_replay(name, program, corpus):
    if not os.path.isdir(corpus) or not os.listdir(corpus):
        return name, 0, 1, [], "no corpus in %s" % corpus, 0
    code, output, took = run([program, corpus], 300)
    return name, int(code == 0), int(code != 0), [], output, took


def run_script(name, script, build):
    code, output, took = run([sys.executable, script], 420, {"RINGPOST_BUILD": build, "PYTHONPATH": os.path.join(ROOT, "tests", "lib")})
    passed = len(re.findall(r"^ok ", output, re.M))
    failed = len(re.findall(r"^not ok ", output, re.M))
    skipped = re.findall(r"^skipped (.*)", output, re.M)
    if (code != 0 and failed == 0) or (passed + failed == 0 and not skipped):
        failed += 1
    return name, passed, failed, ["%s: %s" % (name, s) for s in skipped], output, took


def collect(build):
    san = os.path.join(build, "san")
    side_by_side, alone = [], []
    for level in ("unit", "contract"):
        for folder, _, files in sorted(os.walk(os.path.join(ROOT, "tests", level))):
            for file in sorted(files):
                if file.startswith("test_") and file.endswith(".c"):
                    path = os.path.relpath(os.path.join(folder, file[:-2]), os.path.join(ROOT, "tests"))
                    side_by_side.append((path, run_check, (os.path.join(san, "unit", path),)))
    fuzz = os.path.join(ROOT, "tests", "fuzz")
    for file in sorted(os.listdir(fuzz)):
        if file.startswith("fuzz_") and file.endswith(".c"):
            side_by_side.append(("fuzz/" + file[:-2], run_replay, (os.path.join(san, "replay", file[:-2]), os.path.join(fuzz, "corpus", file[5:-2]))))
    for level in ("integration", "crash"):
        folder = os.path.join(ROOT, "tests", level)
        for file in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if file.startswith("test_") and file.endswith(".py"):
                name = level + "/" + file[:-3]
                (alone if name in ALONE else side_by_side).append((name, run_script, (os.path.join(folder, file), build)))
    return [test for test in side_by_side if test[1] == run_script] + [test for test in side_by_side if test[1] != run_script], alone


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--only", default="", help="run only what has this in its name")
    parser.add_argument("--verbose", action="store_true", help="print the output of what passed too")
    options = parser.parse_args()
    build = os.path.abspath(options.build)
    side_by_side, alone = ([t for t in tests if options.only in t[0]] for tests in collect(build))
    passed = failed = 0
    skipped = []

    def report(result):
        nonlocal passed, failed
        name, good, bad, skips, output, took = result
        passed += good
        failed += bad
        skipped.extend(skips)
        print("%-4s %-44s %4d passed%s  %.1f s" % ("FAIL" if bad else "ok", name, good, ", %d failed" % bad if bad else "", took), flush=True)
        if bad or options.verbose:
            print("  | " + "\n  | ".join(output.splitlines()[-200:]), flush=True)
            if bad:
                print("  again: make test ONLY=%s" % name, flush=True)

    with concurrent.futures.ThreadPoolExecutor((os.cpu_count() or 1) + 1) as workers:  # scripts wait at times
        for result in workers.map(lambda test: test[1](test[0], *test[2]), side_by_side):
            report(result)
    for name, how, arguments in alone:
        report(how(name, *arguments))
    for line in skipped:
        print("SKIPPED %s" % line)
    print("%d passed, %d failed%s" % (passed, failed, ", %d skipped" % len(skipped) if skipped else ""))
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
