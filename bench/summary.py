"""What the figures of several rounds come to. Pure: figures in, numbers and texts out."""
import collections
import statistics


class Ratio(collections.namedtuple("Ratio", "median least most")):
    """Of figures of the same round each, so that a minute in which the whole machine was slower does not count."""

    def text(self, form="%.2f"):
        return "%s (%s to %s)" % tuple(form % value for value in self)


# a workload, the one it is held against, and the ratios of its messages/s and of its CPU per message to that one's; None where that one's are all 0
Pair = collections.namedtuple("Pair", "name base rate cpu")


def median(rounds, read):
    return statistics.median(read(figures) for figures in rounds)


def ratio(rounds, base_rounds, key):
    """Of the figures under that key, round by round; None if there is nothing to divide by."""
    if len(rounds) != len(base_rounds):
        raise ValueError("%d rounds against %d" % (len(rounds), len(base_rounds)))
    values = [own[key] / base[key] for own, base in zip(rounds, base_rounds) if base[key] > 0]
    return Ratio(statistics.median(values), min(values), max(values)) if values else None


def pairs(rounds, against):
    """rounds: name -> its figures, one of each round; against: name -> the name it is held against, if it is there."""
    return [
        Pair(name, base, ratio(rounds[name], rounds[base], "rate"), ratio(rounds[name], rounds[base], "cpu_us"))
        for name, base in against.items()
        if name in rounds and base in rounds
    ]


def ratio_text(value):
    return "x%s" % value.text() if value is not None else "-"


def pair_kept(pair, cpu_most=None, rate_least=None):
    """Are the medians of the ratios within what is required? What cannot be told is kept."""
    cpu_kept = cpu_most is None or pair.cpu is None or pair.cpu.median <= cpu_most
    return cpu_kept and (rate_least is None or pair.rate is None or pair.rate.median >= rate_least)


def pair_text(pair, cpu_most=None, rate_caution=None, rate_least=None):
    """cpu_most, rate_least: what the medians of the ratios may be at most and at least; rate_caution: why the messages/s are to be taken with care."""
    cpu = "CPU/message %s" % ratio_text(pair.cpu)
    if cpu_most is not None and pair.cpu is not None:
        cpu += ", required: at most %.2f, %s" % (cpu_most, "met" if pair_kept(pair, cpu_most=cpu_most) else "NOT MET")
    rate = "messages/s %s" % ratio_text(pair.rate)
    if rate_least is not None and pair.rate is not None:
        rate += ", required: at least %.2f, %s" % (rate_least, "met" if pair_kept(pair, rate_least=rate_least) else "NOT MET")
    return "%s; %s%s" % (cpu, rate, ", %s" % rate_caution if rate_caution else "")


def _latency(rounds, base_rounds, percentile):
    own, base = ([{"ms": figures["source"]["injection_ms"][percentile]} for figures in each] for each in (rounds, base_rounds))
    return ratio(own, base, "ms")


def latency_kept(rounds, base_rounds, most):
    """Is the median of the ratios of the injection latencies (of the messages in the middle) within what is required?"""
    value = _latency(rounds, base_rounds, "p50")
    return value is None or value.median <= most


def latency_text(rounds, base_rounds, most):
    kept = "met" if latency_kept(rounds, base_rounds, most) else "NOT MET"
    p50, p99 = (ratio_text(_latency(rounds, base_rounds, percentile)) for percentile in ("p50", "p99"))
    return "injection p50 %s, required: at most %.2f, %s, p99 %s" % (p50, most, kept, p99)


def difference_text(rounds, base_rounds, what):
    """What a message costs more than in the base, where each has one of these and none there."""
    values = [own["cpu_us"] - base["cpu_us"] for own, base in zip(rounds, base_rounds)]
    return "%s us (%s to %s) of CPU for each %s" % (*("%.1f" % value for value in (statistics.median(values), min(values), max(values))), what)


def counted(number, what):
    return "%d %s%s" % (number, what, "" if number == 1 else "s")


def rate_caution(shards, base_shards, processors):
    """None, or why messages/s of a relay with so many shards say less than they seem to: source and sink need a processor each."""
    if processors >= shards + 2:
        return None
    shared = "source and sink share %s with %s" % (counted(processors, "processor"), counted(shards, "shard"))
    return ("not meaningful: " if shards != base_shards else "the load tools' work is in it: ") + shared


DESCRIPTORS_BESIDES = 64  # listeners, segments, rings, what a C library opens


def idle_possible(wanted, descriptors, sessions, connections):
    """How many idle sessions a relay with that limit can have besides its active ones and its connections out. The source that holds them needs
    fewer."""
    return max(0, min(wanted, descriptors - sessions - connections - DESCRIPTORS_BESIDES))


def bytes_each(before_kib, after_kib, count):
    """What one of so many idle sessions took of resident memory."""
    return (after_kib - before_kib) * 1024 / count


def idle_text(rounds):
    """Of the rounds that had idle sessions; empty if none had."""
    each = [figures["idle_session_bytes"] for figures in rounds if figures.get("idle_session_bytes") is not None]
    if not each:
        return ""
    kib = Ratio(statistics.median(each) / 1024, min(each) / 1024, max(each) / 1024)
    return "%s KiB of resident memory per idle session" % kib.text()
