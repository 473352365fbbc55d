"""Takes the README's picture from the report of the replay, in a real browser.

    python docs/picture.py            # writes docs/images/replay.png; `make picture` calls it

It needs chromium or Google Chrome, and a replay in .caudal/replay/bank_marketing (`make run`).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
REPORT = PROJECT / ".caudal" / "replay" / "bank_marketing" / "report.html"
PICTURE = PROJECT / "docs" / "images" / "replay.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (1080, 1340)
"""The page's top: headline figures, quality and events, drift."""
_LARGEST = 400_000


def take(report: Path, picture: Path, browser: str) -> None:
    """Draws the report's top into a PNG; the picture that was there is replaced only by a whole one."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "picture.png"
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={folder}/browser", f"--window-size={SIZE[0]},{SIZE[1]}",
                f"--screenshot={drawn}", report.as_uri(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        if drawn.stat().st_size > _LARGEST:
            raise SystemExit(
                f"error: the picture has {drawn.stat().st_size:,} bytes; at most {_LARGEST:,} are kept"
            )
        aside = picture.with_suffix(".aside")
        aside.write_bytes(drawn.read_bytes())
        aside.replace(picture)


def main() -> None:
    browser = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if browser is None:
        raise SystemExit("error: there is no browser\n  mend: install chromium (Debian: apt install chromium)")
    if not REPORT.exists():
        raise SystemExit(f"error: there is no {REPORT.relative_to(PROJECT)}\n  mend: call `make run` first")
    take(REPORT, PICTURE, browser)
    print(f"{PICTURE.relative_to(PROJECT)}: {PICTURE.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
