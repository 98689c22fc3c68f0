"""Reads lines `before|after NAME MS REQUESTS …` and prints each name's median before and after, their ratio, and requests."""

import statistics
import sys

taken = {}
for line in sys.stdin:
    when, *words = line.split()
    for name, ms, requests in zip(words[::3], words[1::3], words[2::3]):
        taken.setdefault(name, {}).setdefault(when, []).append((float(ms), int(requests)))
for name, runs in taken.items():
    before, after = (statistics.median(ms for ms, _ in runs[when]) for when in ("before", "after"))
    requests = {when: sorted({count for _, count in runs[when]}) for when in ("before", "after")}
    print(f"{name:8} {before:.3f} ms -> {after:.3f} ms: {after / before:.2f} times; requests {requests['before']} -> {requests['after']}")
