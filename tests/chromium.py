"""Find the browser that pages are tested in: Debian's chromium, by preference its build that has no windows.

That draws no toolbar beside each page, and takes half of the CPU time for a test of one.
"""

import shutil

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
