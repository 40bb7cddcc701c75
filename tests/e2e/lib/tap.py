"""
Claims, told in the Test Anything Protocol.
"""


class Tap:
    def __init__(self, verbose=False):
        self.n = self.n_bad = 0
        self.verbose = verbose

    def claim(self, words, good, *said):
        self.n += 1
        self.n_bad += not good
        print(f'{"" if good else "not "}ok {self.n} - {words}', flush=True)
        for line in said if not good or self.verbose else ():
            for part in str(line).splitlines():
                print(f'# {part}', flush=True)
        return good

    def equal(self, words, found, wanted):
        self.claim(words, found == wanted, f'found  {found}', f'wanted {wanted}')

    def skip(self, words, why):
        self.n += 1
        print(f'ok {self.n} - {words} # SKIP {why}', flush=True)
