"""Wait until no request runs: URL of the metrics, gauge of running requests, seconds at most.

New requests still come for a moment after the pod left its Services, hence the first wait.
"""

import sys
import time
import urllib.request

url, gauge, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
deadline = time.monotonic() + seconds
time.sleep(min(5.0, seconds))
while time.monotonic() < deadline:
    try:
        text = urllib.request.urlopen(url, timeout=5).read().decode()
    except OSError:
        break
    lines = (line.rsplit(" ", 1) for line in text.splitlines())
    if not sum(float(line[1]) for line in lines if line[0].split("{")[0] == gauge):
        break
    time.sleep(1)
