"""
What a run of the suite has left out, and why: read from meson's record of it (meson-logs/testlog.json).

A claim says so in TAP ("ok 3 - name # SKIP why"); a unit test in cmocka's way, with "skipped: why" before; a program that
is skipped as a whole exits with 77, and its last line of output is the reason.
"""
import collections
import json
import re

Skip = collections.namedtuple('Skip', 'test claim why')  # claim: None for a test that was skipped as a whole

TAP = re.compile(r'ok \d+(?: -)? (.*?) # SKIP ?(.*)')
CMOCKA = re.compile(r'\[  SKIPPED \] (\w+)')  # once when it happens, once more in the list at the end
REASON = re.compile(r'(?:# )?skipped: (.*)', re.IGNORECASE)
UNKNOWN = 'it does not say why'


def of_claims(test, lines):
    why, seen = None, set()
    for line in lines:
        if found := TAP.fullmatch(line):
            yield Skip(test, found[1], found[2] or UNKNOWN)
        elif (found := CMOCKA.fullmatch(line)) and found[1] not in seen:
            yield Skip(test, found[1], why or UNKNOWN)
            seen.add(found[1])
            why = None
        elif found := REASON.fullmatch(line):
            why = found[1]


def of_test(record):
    """Those of one test: a line of meson's record."""
    lines = [line.strip() for line in (record.get('stdout') or '').splitlines() if line.strip()]
    test = record['name'].rpartition(' / ')[2].rpartition(':')[2]
    if record['result'] != 'SKIP':
        return list(of_claims(test, lines))
    why = re.sub(r'(?i)^(1\.\.0 # )?skip(ped)?:? *|^! ', '', lines[-1]) if lines else UNKNOWN
    return [Skip(test, None, why)]


def read(path):
    with open(path) as f:
        return [skip for line in f for skip in of_test(json.loads(line))]
